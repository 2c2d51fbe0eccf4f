"""A judge as a reward to train with.

    reward:
      functions:
        - name: align.judges.as_reward:Reward
          settings: {judge: {judge: "http:MODEL", base_url: "http://127.0.0.1:8000/v1", instructions: graded}}

`judge` is what `align-eval judge --judge` takes, too: a text, a YAML file, or its keys (`align.judges.named`). A judge
that grades gives each completion its grade. One that compares gives it how often it beats the others of its prompt
(align.rewards.pairwise): each two are shown in both orders, so G completions take G (G - 1) questions. What could not
be judged earns nothing and is not learned from; why is told once for each reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from align.batches import BY_POLICY
from align.errors import UserError
from align.judges.base import Judge, Order, Question, Verdict
from align.judges.named import JudgeSpec, Means, Panelled, make_judge, read_spec, spec_of
from align.judges.replies import Replies
from align.models.sources import resolve, side_files, weight_files
from align.rewards.base import Text, text_of
from align.rewards.pairwise.oracle import win_rates
from align.system.lines import warn

OF_FILES = ("local", "reward", "implicit", "pairwise")  # kinds of judges that are read from a folder


@dataclass(frozen=True, kw_only=True)
class Reward:
    judge: str | dict[str, Any]
    memory: str = ""  # a folder of replies, which a resumed run and other runs do not pay for again; empty: none
    reference: str = "reference"  # the data's column with an answer to go by, for instructions that need one
    _told: set[str] = field(default_factory=set, init=False, repr=False, compare=False)

    def __post_init__(self):
        for spec in self._specs:
            if spec.kind == "recorded":
                raise UserError(f"judge {spec.judge}: knows verdicts on answers that are written already")
        assert self._judge.name

    @property
    def compares(self) -> str:
        return "prompt" if self._judge.pairwise else ""

    @property
    def in_process(self) -> bool:
        return any(spec.kind in OF_FILES for spec in self._specs)

    def inputs(self) -> list[Path]:
        """What judges are read from."""
        files = [Path(self.judge)] if isinstance(self.judge, str) and Path(self.judge).is_file() else []
        own = [spec.instructions for spec in self._specs if Path(spec.instructions).is_file()]
        folders = [resolve(spec.what) for spec in self._specs if spec.kind in OF_FILES]
        of_models = [file for folder in folders for file in (*weight_files(folder), *side_files(folder))]
        return [*files, *map(Path, own), *of_models]

    def __call__(
        self, prompts: list[Text], completions: list[Text], completion_ids: list[list[int]],
        written_by: Sequence[str | None] = (), **columns: Any,
    ) -> list[float | None]:  # fmt: skip
        rows = [{name: values[i] for name, values in columns.items()} for i in range(len(prompts))]
        texts = [text_of(completion) for completion in completions]
        if not self._judge.pairwise:
            asked = [self._question(str(i), prompts[i], rows[i], (text,), "") for i, text in enumerate(texts)]
            return [verdict.score for verdict in self._heard(asked)]
        opponents = [who not in (None, BY_POLICY) for who in written_by]
        return win_rates(self._matrix(prompts[0], texts, rows[0]), opponents)

    def _matrix(self, prompt: Text, texts: Sequence[str], row: dict[str, Any]) -> np.ndarray:
        """(G, G): how surely the row beats the column; NaN where an order of the two has no verdict, as the other
        order alone would tell who was shown first, too."""
        found = np.full((len(texts), len(texts)), np.nan)
        orders: tuple[Order, ...] = ("ab", "ba") if self._judge.ordered else ("ab",)
        same = {pair: texts[pair[0]] == texts[pair[1]] for pair in combinations(range(len(texts)), 2)}
        pairs = [pair for pair, equal in same.items() if not equal]
        asked = [self._question(f"{a} {b}", prompt, row, (texts[a], texts[b]), o) for a, b in pairs for o in orders]
        heard = iter(self._heard(asked))
        for a, b in same:
            scores = [0.5] if same[a, b] else [next(heard).score for _ in orders]
            if None not in scores:
                found[a, b] = sum(s for s in scores if s is not None) / len(scores)
                found[b, a] = 1 - found[a, b]
        return found

    def _question(
        self, item: str, prompt: Text, row: dict[str, Any], answers: tuple[str, ...], order: Order
    ) -> Question:
        reference = row.get(self.reference)
        return Question(
            item=item, prompt=prompt, models=("policy",) * len(answers), answers=answers, order=order,
            reference="" if reference is None else str(reference), columns=row,
        )  # fmt: skip

    def _heard(self, questions: Sequence[Question]) -> list[Verdict]:
        verdicts = self._judge.judge(questions) if questions else []
        for why in dict.fromkeys(v.why for v in verdicts if v.score is None):
            if why not in self._told:
                self._told.add(why)
                warn(f"judge {self._judge.name}: gives a completion no reward: {why}")
        return verdicts

    @cached_property
    def _spec(self) -> JudgeSpec | Panelled:
        return read_spec(self.judge, {}) if isinstance(self.judge, str) else spec_of(self.judge, "judge")

    @property
    def _specs(self) -> tuple[JudgeSpec, ...]:
        return self._spec.judges if isinstance(self._spec, Panelled) else (self._spec,)

    @cached_property
    def _judge(self) -> Judge:
        return make_judge(self._spec, Means(replies=Replies(Path(self.memory) if self.memory else None)))
