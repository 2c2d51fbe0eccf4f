"""Checkpoints of a run judged against the model that it began with, on prompts that it has not learned from.

`RUN/evaluations/judged/PROMPTS/` is an evaluation folder whose models are `RUN@STEP`; step 0 is the reference. Who wins
how often goes into `RUN/evaluations/checkpoints.jsonl`, beside task scores, and so into the run's report. What was
written or judged before is neither written nor asked again, so this can be called while a run goes on.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from align.data.held_out import Prompts, Split, prompts_of
from align.data.settings import DataSection
from align.errors import Mistakes, Stopped, UserError
from align.judges.base import Judge
from align.methods.base import find_method
from align.recipe.text import Written
from align.recipe.types import build
from align.report.page import write as write_report
from align.system.files import inner_folder, replace_file
from align_eval.analysis.comparison import SETTINGS, Comparison, compare
from align_eval.analysis.evaluation import Evaluation, evaluation_of
from align_eval.analysis.judges import agreements, judge_rows
from align_eval.analysis.pairs import PairSettings
from align_eval.analysis.writing import put
from align_eval.generation.answers import Batch, ending_of
from align_eval.generation.answers import Written as Given
from align_eval.generation.asked import Model
from align_eval.generation.settings import Settings, budget_of
from align_eval.generation.trained import beginning_of
from align_eval.judging.run import Judged, judge
from align_eval.judging.settings import Judging
from align_eval.records import Item
from align_eval.results.document import Sections
from align_eval.results.families import adjusted
from align_eval.running.checkpoints import FOLDER, NAME, Point, models_in, point_of, points_in, write_points
from align_eval.running.run import Progress, quiet, write
from align_eval.statistics.resampling import USUAL
from align_eval.tasks.files import prompts_in, task_of
from align_eval.tasks.items import items_of
from align_eval.tasks.task import Task

JUDGED = "judged"  # in the folder of a run's evaluations
SPLITS: tuple[Split, ...] = ("validation", "test")  # of a run's data, in the order in which they are looked for
ONE_EACH = ("limit", "num_samples", "rows", "shots")  # settings of answers that have no part here
Said = TypeVar("Said", bound=Hashable)
Asked = tuple[Task, list[Item], list[str]]  # the task, its items, notes on them


@dataclass(frozen=True, kw_only=True)
class Contest:
    """Who answers what, before anything is written."""

    run: Path
    batch: Batch
    models: dict[int, Model]  # by step
    held_out: Sequence[Item] = ()  # all that the run holds out, for their file; empty where others were named
    notes: list[str] = field(default_factory=list)  # on them

    @property
    def folder(self) -> Path:
        return self.run / FOLDER / JUDGED / self.batch.task.name

    @property
    def reference(self) -> str:
        return self.models[0].name

    def judging(self, settings: Judging) -> Judging:
        """Every checkpoint against the reference. UserError where other models are named."""
        for key in ("models", "baseline"):
            if getattr(settings, key):
                raise UserError(f"{key}: the checkpoints of {self.run} are judged against step 0; leave {key} out")
        return replace(settings, models=tuple(m.name for m in self.models.values()), baseline=self.reference)


@dataclass(frozen=True, kw_only=True)
class Standings:
    """How a run's checkpoints fare against the model that it began with."""

    contest: Contest
    source: Evaluation  # with the verdicts of these judges alone
    points: list[Point] = field(default_factory=list)  # as in the run's report

    def comparisons(self, settings: PairSettings = SETTINGS) -> dict[int, Comparison]:
        """By step, in their order."""
        models = self.contest.models.items()
        return {s: compare(self.contest.reference, m.name, self.source, settings=settings) for s, m in models if s}


def judge_checkpoints(
    run: Path | str, judges: Sequence[Judge], judging: Judging | None = None, settings: Settings | None = None,
    prompts: str = "",
) -> Standings:  # fmt: skip
    """`prompts`: a task or a .jsonl file; without one the run's held-out prompts. `settings` are of the answers.

    UserError, RunError; Stopped where a budget ended it, and the same call goes on.
    """
    judging, settings = judging or Judging(), settings or Settings()
    contest = contest_of(Path(run), settings, prompts, judging.items)
    told = contest.judging(judging)
    ending_of(write_answers(contest, settings)).tell(budget_of(settings).told)
    found = [one for judge_ in judges for one in judge(contest.folder, judge_, told)]
    if left := sum(one.unasked for one in found):
        raise Stopped(f"{left:,} questions were not asked; the same call goes on where this one ended")
    return standings(contest, found)


def contest_of(run: Path, settings: Settings, prompts: str = "", most: int = 0) -> Contest:
    """`most` prompts, the first; 0: all. UserError where the run has no checkpoints, or holds no prompts out."""
    for key in ONE_EACH:
        if getattr(settings, key) != getattr(Settings(), key):
            raise UserError(f"decoding.{key}: every checkpoint gives one answer to each prompt; fewer: items=50")
    points_in(run / FOLDER / NAME)
    models = models_in(run, settings)
    task, items, notes = _named(prompts) if prompts else _held_out(run)
    if task.mode == "choose":
        raise UserError(
            f"{task.name}: its answers are choices, which are right or wrong without a judge: align-eval run "
            f"{task.name} --checkpoints {run}"
        )
    batch = Batch(task=task, items=items[: most or None])
    return Contest(run=run, models=models, batch=batch, notes=notes, held_out=[] if prompts else items)


def _named(prompts: str) -> Asked:
    task = task_of(prompts)
    return task, items_of(task), []


def _held_out(run: Path) -> Asked:
    """In the order of their hashes: the first ones are drawn by chance."""
    split, found = held_out(run)
    texts = sorted(found.texts.items())
    items = [Item(id=f"{split}/{key:016x}", prompt=text, columns={"task": split}) for key, text in texts]
    notes = {"rows of the data cannot be used": found.unusable, f"rows of data.{split} have no prompt": found.bare,
             f"prompts of data.{split} have tools, which are not shown here": found.tools}  # fmt: skip
    task = prompts_in(run.absolute() / FOLDER / JUDGED / f"{split}.jsonl")
    return task, items, [f"{n:,} {what}" for what, n in notes.items() if n]


def held_out(run: Path) -> tuple[Split, Prompts]:
    """The split's name and its prompts: those of data.validation, without it of data.test. UserError."""
    recipe, place = beginning_of(run).recipe, run / "recipe.yaml"
    written = Written(str(place), recipe)
    section = build(written, "data", DataSection, recipe.get("data") or {})
    if section is None or written.mistakes:
        raise Mistakes(dict.fromkeys(written.mistakes))
    instead = f"name prompts yourself: align-eval checkpoints {run} prompts.jsonl"
    named: list[Split] = [name for name in SPLITS if getattr(section, name)]
    if not named:
        raise UserError(f"{place}: holds no prompts out (data.validation, data.test); {instead}")
    kind = find_method(str((recipe.get("method") or {}).get("name"))).needs().batch.kind
    try:
        found = prompts_of(section, kind, split := named[0])
    except UserError as error:
        raise UserError(f"{place}: {error}; put the data back, or {instead}") from None
    if not found.texts:
        raise UserError(f"{place}: data.{split} has no row with a prompt ({found.bare:,} without one); {instead}")
    return split, found


def write_answers(contest: Contest, settings: Settings, progress: Progress = quiet) -> list[Given]:
    """What is missing of them, one model after the other."""
    if contest.held_out:
        rows = [{"id": item.id.partition("/")[2], "prompt": item.prompt} for item in contest.held_out]
        folder = inner_folder(contest.folder.parent)
        replace_file(folder / contest.batch.task.rows, "".join(json.dumps(row) + "\n" for row in rows))
    try:
        return write(contest.folder, list(contest.models.values()), [contest.batch], settings, progress)
    except UserError as error:
        raise UserError(f"{error}. Of checkpoints: the same decoding again, or move {contest.folder} away") from None


def standings(contest: Contest, judged: Sequence[Judged]) -> Standings:
    """Of what these judges have said; into the contest's results.json and the run's report."""
    names = {one.judge for one in judged}
    whole = evaluation_of(contest.folder)
    source = replace(whole, verdicts=[v for v in whole.verdicts if v.judge in names], scores=[])
    made = Standings(contest=contest, source=source)
    found, task = made.comparisons(), contest.batch.task.name
    points = [point for step, one in found.items() for point in _points(task, step, one)]
    _put(contest, source, list(found.values()))
    write_points(contest.run / FOLDER / NAME, points)
    write_report([contest.run])
    return replace(made, points=points)


def _points(task: str, step: int, found: Comparison) -> Iterator[Point]:
    for row in found.pairs:
        if not row.category:
            name = f"{task}, judged by {row.judge}"
            yield point_of(step, name, "win rate against step 0", row.win_rate)
            if row.lc_win_rate is not None:
                yield point_of(step, name, "win rate against step 0 at equal length", row.lc_win_rate)
    for row in found.differences:
        if not row.category:
            yield point_of(step, f"{task}, judged by {row.metric}", "grade less that of step 0", row.difference)


def _put(contest: Contest, source: Evaluation, found: Sequence[Comparison]) -> None:
    """All checkpoints are one table: p-values are adjusted over them together."""
    sections = Sections(
        pairs=adjusted([row for one in found for row in one.pairs]),
        differences=adjusted([row for one in found for row in one.differences]),
        scores=_once(row for one in found for row in one.scores),
        judges=judge_rows(source), agreement=agreements(source),
    )  # fmt: skip
    told = (_once(w for one in found for w in one.warnings), _once(f for one in found for f in one.failures))
    put(contest.folder, sections, [model.name for model in contest.models.values()], USUAL, told)


def _once(rows: Iterable[Said]) -> list[Said]:
    return list(dict.fromkeys(rows))
