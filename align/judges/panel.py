"""Several judges as one.

`majority` counts votes of pairs (where the best are even, 1/2, which is flagged), `mean` is the mean of scores. A panel
that has lost more of its judges than the quorum allows gives no verdict: a silent judge is no vote for a tie.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from align.errors import UserError
from align.judges.asking import AGAIN, no_verdict, said
from align.judges.base import Judge, Question, Verdict


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Judges that are all asked the same."""

    name: str
    judges: tuple[Judge, ...]
    rule: Literal["majority", "mean"] = "majority"
    quorum: int = 0  # judges whose verdict there must be; 0: more than half of them

    def __post_init__(self):
        if len(self.judges) < 2:
            raise UserError(f"panel {self.name}: has {len(self.judges)} judges; expected two or more")
        names = [judge.name for judge in self.judges]
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            raise UserError(f"panel {self.name}: two judges are called {twice[0]}; give each a name of its own")
        if len({judge.pairwise for judge in self.judges}) > 1:
            kinds = ", ".join(f"{j.name} {'compares' if j.pairwise else 'grades'}" for j in self.judges)
            raise UserError(f"panel {self.name}: all its judges are asked the same, but {kinds}; see instructions")
        if not 0 <= self.quorum <= len(self.judges):
            raise UserError(f"panel {self.name}: quorum {self.quorum}; expected 1 to {len(self.judges)}")

    @property
    def needed(self) -> int:
        return self.quorum or len(self.judges) // 2 + 1

    @property
    def ordered(self) -> bool:
        return any(judge.ordered for judge in self.judges)

    @property
    def pairwise(self) -> bool:
        return self.judges[0].pairwise

    def identity(self) -> dict[str, Any]:
        members = {judge.name: judge.identity() for judge in self.judges}
        return {"panel": members, "rule": self.rule, "quorum": self.needed}

    def judge(self, questions: Sequence[Question]) -> list[Verdict]:
        return self.together(questions, [judge.judge(questions) for judge in self.judges])

    def together(self, questions: Sequence[Question], verdicts: Sequence[Sequence[Verdict]]) -> list[Verdict]:
        """The panel's verdicts out of those of its judges, in their order."""
        return [self._one(q, [of_judge[i] for of_judge in verdicts]) for i, q in enumerate(questions)]

    def _one(self, question: Question, verdicts: Sequence[Verdict]) -> Verdict:
        heard = [v for v in verdicts if v.score is not None]
        if len(heard) < self.needed:
            lost = "; ".join(f"{v.judge}: {v.why}" for v in verdicts if v.score is None)
            again = {AGAIN: True} if any(v.columns.get(AGAIN) for v in verdicts) else {}
            why = f"{len(heard)} of {len(verdicts)} judges have a verdict, {self.needed} are needed ({lost})"
            return no_verdict(self.name, question, why, again)
        scores = [v.score for v in heard if v.score is not None]
        votes: dict[str, Any] = {"judges": {v.judge: v.score for v in verdicts}}
        if any(v.columns.get(AGAIN) for v in verdicts):
            votes[AGAIN] = True  # its judges will be asked again
        if self.rule == "mean" or len(question.models) == 1:
            return said(self.name, question, sum(scores) / len(scores), **votes)
        counts = Counter(1.0 if s > 0.5 else 0.0 if s < 0.5 else 0.5 for s in scores)
        most = max(counts.values())
        leading = [score for score, count in counts.items() if count == most]
        if len(leading) > 1:
            return said(self.name, question, 0.5, flags=["the judges are split"], **votes)
        return said(self.name, question, leading[0], **votes)
