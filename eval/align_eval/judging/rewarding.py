"""Rewards of single answers: of a reward model, or those that a policy trained by DPO has learned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from align.errors import UserError
from align.judges.asking import AGAIN
from align.judges.base import Judge, Question
from align.judges.named import JudgeSpec, make_judge, read_spec
from align.judges.rules import Scorer
from align.system.lines import Tell, warn
from align.system.terminal import say
from align_eval.analysis.evaluation import evaluation_of
from align_eval.analysis.scores import named, scored
from align_eval.ending import Ending
from align_eval.judging.questions import Material, material_of, question_of
from align_eval.judging.run import ABOUT, PORTION, about
from align_eval.judging.settings import Judging, settings_of
from align_eval.records import Score
from align_eval.results.wording import told
from align_eval.store import append_scores, read_scores
from align_eval.store.judges import Note

Key = tuple[str, str, int]  # item, model, sample


@dataclass(frozen=True, kw_only=True)
class Rewarded:
    """What a reward model says of an evaluation's answers."""

    metric: str
    scores: list[Score]
    new: int = 0  # of this call
    failed: int = 0  # that nothing came of; they are not kept, and asked for again
    gaps: list[str] = field(default_factory=list)

    @property
    def missing(self) -> Counter[str]:
        return Counter(score.why for score in self.scores if score.score is None)


def reward(
    folder: Path | str, who: Judge | JudgeSpec, settings: Judging | None = None, tell: Tell = warn
) -> Rewarded:
    """Scores every sample of every answer that is not scored yet. The metric is called like the judge. UserError."""
    folder, settings = Path(folder), settings or Judging()
    one = make_judge(who) if isinstance(who, JudgeSpec) else who
    if one.pairwise or not isinstance(one, Scorer):
        raise UserError(f"{one.name}: gives single answers no rewards; name reward:FOLDER or implicit:FOLDER")
    material = material_of(folder, settings, tell)
    known = {(s.item, s.model, s.sample): s for s in read_scores(folder, tell) if s.metric == one.name}
    note = Note(one.name, one.identity())
    note.begin(folder, binding=bool(known))
    asked = dict(_questions(material))
    stale = [key for key, q in asked.items() if key in known and known[key].columns.get(ABOUT) != about(q)]
    if stale:
        raise UserError(
            f"{folder}: {len(stale)} answers were replaced since {one.name} scored them, the first of {stale[0][1]} to "
            f"{stale[0][0]}; call it otherwise (name=...), or use a new folder"
        )
    todo, failed = [key for key in asked if key not in known], 0
    for at in range(0, len(todo), PORTION):
        portion = todo[at : at + PORTION]
        made = _scored(one, {key: asked[key] for key in portion})
        note.hold(folder)
        append_scores(folder, [score for score, again in made if not again])
        failed += sum(again for _, again in made)
        known |= {(s.item, s.model, s.sample): s for s, _ in made}
    return Rewarded(
        metric=one.name, scores=[known[key] for key in asked], new=len(todo), failed=failed, gaps=material.gaps
    )


def _questions(material: Material) -> Iterator[tuple[Key, Question]]:
    for item in material.items.values():
        for model in material.models:
            for answer in material.answers[model].get(item.id, []):
                yield (item.id, model, answer.sample), question_of(item, (model,), (answer.text,))


def _scored(one: Judge, asked: dict[Key, Question]) -> list[tuple[Score, bool]]:
    """And whether it is to be asked for again."""
    verdicts = zip(asked.items(), one.judge(list(asked.values())), strict=True)
    return [
        (
            Score(item=item, model=model, sample=sample, metric=one.name, score=v.score, why=v.why,
                  columns={ABOUT: about(q)}),
            bool(v.columns.get(AGAIN)),
        )
        for ((item, model, sample), q), v in verdicts
    ]  # fmt: skip


def run(folder: Path, rewards: Sequence[str], words: Sequence[str]) -> None:
    """`align-eval reward`."""
    settings, details = settings_of(words)
    judges = [make_judge(_graded(read_spec(one, details), one)) for one in rewards]
    ending = Ending()
    for one in judges:
        found = reward(folder, one, settings)
        ending.silent += [found.metric] if found.failed == len(found.scores) else []
        ending.failed += [f"{found.failed:,} answers by {found.metric}"] if found.failed else []
        kept = len(found.scores) - found.new
        say(f"{found.metric}: {len(found.scores):,} answers ({kept:,} scored before)")
        for why, count in found.missing.most_common(5):
            say(f"  {count:,} without a reward: {why}")
        for gap in found.gaps:
            say(f"  {gap}")
        for row in scored(evaluation_of(folder)):
            if (row.task, row.metric) == named(found.scores[0]) and not row.category:
                say(f"  {row.model}: {told(row.estimate)}")
    ending.tell()


def _graded(spec: object, written: str) -> JudgeSpec:
    """A reward model that scores single answers."""
    if not isinstance(spec, JudgeSpec):
        raise UserError(f"{written}: is a panel; name reward:FOLDER or implicit:FOLDER")
    return replace(spec, instructions="graded")
