"""An evaluation's answers judged: what was judged before is not judged again, and what failed is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from align.judges.asking import AGAIN, ModelJudge
from align.judges.base import Judge, Question, Verdict
from align.judges.budget import UNASKED, Budget, Cost
from align.judges.named import JudgeSpec, Means, Panelled, make_judge
from align.judges.panel import Panel
from align.judges.recorded import RecordedJudge
from align.judges.replies import Replies
from align.system.lines import Tell, warn
from align.system.sums import digest_of
from align_eval.judging.questions import material_of, questions_of
from align_eval.judging.settings import Judging
from align_eval.store import append_verdicts, read_verdicts
from align_eval.store.folder import key_of
from align_eval.store.judges import Note

MEMORY = "replies"
ABOUT = "about"  # a column of verdicts: the sum of the prompt, the answers and the reference
PORTION = 256  # questions that are judged before their verdicts are written
Key = tuple[Any, ...]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What a judge has said of an evaluation, in this call and before."""

    judge: str
    verdicts: list[Verdict]  # of all questions that were asked, in their order
    new: int = 0  # of this call
    unasked: int = 0  # questions that the budget had no room for
    gaps: list[str] = field(default_factory=list)  # what there was not to judge

    @property
    def missing(self) -> Counter[str]:
        """Why there is no verdict -> how often."""
        return Counter(v.why for v in self.verdicts if v.score is None)

    @property
    def failed(self) -> int:
        """Questions to which nothing came back, of this judge or of some of a panel: they are asked again."""
        return sum(bool(v.columns.get(AGAIN)) for v in self.verdicts)

    @property
    def silent(self) -> bool:
        """Whether all that was asked now failed in a way that may pass, and nothing is known from before either."""
        return self.new > 0 and all(v.score is None and bool(v.columns.get(AGAIN)) for v in self.verdicts)

    @property
    def flags(self) -> Counter[str]:
        return Counter(flag for v in self.verdicts for flag in v.columns.get("flags", []))


def means_of(folder: Path, settings: Judging, progress: Callable[[int, int], object] | None = None) -> Means:
    """A memory in the evaluation's folder, and the budget."""
    budget = Budget(settings.max_calls, settings.max_total_tokens)
    replies = Replies(settings.memory or Path(folder) / MEMORY, allow_revision=settings.allow_revision)
    return Means(replies, budget, progress or (lambda done, of: None))


def judge(
    folder: Path | str, who: Judge | JudgeSpec | Panelled, settings: Judging | None = None, tell: Tell = warn
) -> list[Judged]:
    """Judges all that is not judged yet; first each judge of a panel, then the panel.

    Where the budget ends it, `unasked` says so and the same call goes on. UserError, RunError.
    """
    settings, folder = settings or Judging(), Path(folder)
    one = make_judge(who, means_of(folder, settings)) if isinstance(who, JudgeSpec | Panelled) else who
    material = material_of(folder, settings, tell)
    asked = questions_of(material, one, settings)
    known = _known(folder, tell)
    members = one.judges if isinstance(one, Panel) else ()
    found = [_judged(folder, member, asked, known) for member in (*members, one)]
    notes = [_note(judge, asked) for judge in (*members, one)]
    return [replace(judged, gaps=[*material.gaps, *filter(None, notes)]) for judged in found]


def _note(judge: Judge, asked: Sequence[Question]) -> str:
    """What is to be known of a judge beside its verdicts; empty where there is nothing."""
    if isinstance(judge, RecordedJudge):
        return judge.unused(asked)
    if isinstance(judge, ModelJudge) and len(judge.revisions) > 1:
        return f"{judge.name} was served by {' and '.join(judge.revisions)}"
    return ""


def costs(folder: Path | str, who: Judge, settings: Judging, tell: Tell = warn) -> dict[str, tuple[int, Cost | None]]:
    """Judge -> questions that are not judged yet, and what asking them costs (None: no model is asked)."""
    material = material_of(Path(folder), settings, tell)
    asked, known = questions_of(material, who, settings), _known(Path(folder), lambda text: None)
    found: dict[str, tuple[int, Cost | None]] = {}
    for one in who.judges if isinstance(who, Panel) else (who,):
        open_questions = [q for q in asked if _open(one.name, q, known)]
        found[one.name] = (len(open_questions), one.cost(open_questions) if isinstance(one, ModelJudge) else None)
    return found


def _known(folder: Path, tell: Tell) -> dict[Key, Verdict]:
    return {key_of(verdict): verdict for verdict in read_verdicts(folder, tell)}


def _key(judge: str, question: Question) -> Key:
    return question.item, question.models, judge, question.order, question.repeat


def _open(judge: str, question: Question, known: dict[Key, Verdict]) -> bool:
    """Whether a question is to be asked: it was not yet, or nothing came back, or of other answers than these."""
    before = known.get(_key(judge, question))
    return before is None or bool(before.columns.get(AGAIN)) or before.columns.get(ABOUT) != about(question)


def about(question: Question) -> str:
    """The sum of what is judged: a verdict on answers that have been replaced since is none on the new ones."""
    return digest_of([question.prompt, question.answers, question.reference])[:12]


def _judged(folder: Path, one: Judge, questions: Sequence[Question], known: dict[Key, Verdict]) -> Judged:
    todo = [q for q in questions if _open(one.name, q, known)]
    note = Note(one.name, one.identity(), asdict(one.shape) if isinstance(one, ModelJudge) else None)
    note.begin(folder, binding=any(v.judge == one.name and not v.columns.get(AGAIN) for v in known.values()))
    new = unasked = 0
    for at in range(0, len(todo), PORTION):
        portion = todo[at : at + PORTION]
        said = _of_panel(one, portion, known) if isinstance(one, Panel) else one.judge(portion)
        of = {_key(one.name, q): about(q) for q in portion}
        heard = [_noted(v, of[key_of(v)], known.get(key_of(v))) for v in said if not v.why.startswith(UNASKED)]
        note.hold(folder)
        append_verdicts(folder, heard)
        known |= {key_of(verdict): verdict for verdict in heard}
        new, unasked = new + len(heard), unasked + len(portion) - len(heard)
    verdicts = [known[key] for q in questions if (key := _key(one.name, q)) in known]
    return Judged(judge=one.name, verdicts=verdicts, new=new, unasked=unasked)


def _of_panel(panel: Panel, questions: Sequence[Question], known: dict[Key, Verdict]) -> list[Verdict]:
    """Out of its judges' verdicts; what one of them was not asked waits."""
    ready = [q for q in questions if all(_key(judge.name, q) in known for judge in panel.judges)]
    return panel.together(ready, [[known[_key(judge.name, q)] for q in ready] for judge in panel.judges])


def _noted(verdict: Verdict, of: str, before: Verdict | None) -> Verdict:
    """With what it is about, and as the newest of its question."""
    revision = 0 if before is None else before.revision + 1
    return replace(verdict, revision=revision, columns={**verdict.columns, ABOUT: of})
