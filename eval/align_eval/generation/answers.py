"""Answers of a model to the items of tasks, into an evaluation folder: what is missing, and nothing else.

Items are cut into chunks whose borders depend on the items and the settings alone. A chunk is written by a local model
as a whole, so that a command that was killed and started again ends with the same answers; what a kill left of a chunk
is written once more and not added twice. An endpoint's answers are kept one by one, as they come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from align.errors import RunError
from align.judges.budget import UNASKED, Budget
from align.judges.replies import other_revision
from align.rollout.draws import seed_of
from align.system.lines import Tell, append_lines, read_folder, warn, writer_file
from align.system.sums import digest_of
from align_eval.ending import Ending
from align_eval.generation.affording import Purse
from align_eval.generation.asked import SERVED, Ask, Made, Missing, Model, Plan
from align_eval.generation.identity import hold
from align_eval.generation.settings import Settings
from align_eval.records import Answer, Item
from align_eval.store import append_answers, append_items, read_answers
from align_eval.tasks.task import Task

MISSING = "missing"  # a folder beside answers/
Key = tuple[str, int]  # item, sample


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A task's items, as they are asked."""

    task: Task
    items: Sequence[Item]
    shots: int | None = None


@dataclass(frozen=True)
class Means:
    """What all models of a command share: the budget, and where progress and warnings are told."""

    budget: Budget = field(default_factory=Budget)
    tick: Callable[[int], object] = lambda done: None
    tell: Tell = warn


@dataclass(frozen=True, kw_only=True)
class Written:
    """What a folder holds of one model and one task."""

    model: str
    task: str
    answers: list[Answer]  # in the order of the items
    missing: list[Missing]
    made: int = 0  # answers that were made now, the others were there
    plan: Plan

    @property
    def unasked(self) -> int:
        """Answers that the budget had no room for."""
        return sum(m.again and m.why.startswith(UNASKED) for m in self.missing)

    @property
    def failed(self) -> int:
        """Answers that were asked for and did not come; another time they may."""
        return sum(m.again for m in self.missing) - self.unasked

    @property
    def silent(self) -> bool:
        """Whether nothing came of all that was asked for, and nothing is known from before."""
        return self.failed > 0 and not self.answers


def ending_of(written: Sequence[Written]) -> Ending:
    """What did not come."""
    return Ending(
        unasked=[f"{one.unasked:,} answers of {one.model} to {one.task}" for one in written if one.unasked],
        silent=list(dict.fromkeys(one.model for one in written if one.silent)),
        failed=[f"{one.failed:,} answers of {one.model} to {one.task}" for one in written if one.failed],
    )


def plan_of(model: Model, task: Task, settings: Settings) -> Plan:
    """Command before run, run before task."""
    run = model.trained()
    stops = (*settings.stop_strings, *run.stop_strings, *task.stop_strings)
    return Plan(
        mode=task.mode,
        max_completion_length=settings.max_completion_length or run.max_completion_length or task.max_completion_length,
        stop_strings=tuple(dict.fromkeys(stops)),
        kept_strings=run.stop_strings,
        gap=task.gap,
        ended=task.ended,
    )


def generate(folder: Path, model: Model, batch: Batch, settings: Settings, means: Means | None = None) -> Written:
    """Makes what is missing of a model's answers to a task. UserError where the folder holds others of that name,
    RunError where an endpoint serves another model than before."""
    means = means or Means()
    plan = plan_of(model, batch.task, settings)
    append_items(folder, batch.items)
    keeper = Keeper(folder, model, settings, Purse(means.budget, model, plan), means)
    hold(folder, model, batch.task.name, told_of(batch, plan, settings), binding=keeper.binding(batch))
    for chunk in chunks(batch.items, plan, settings, model.side_by_side):
        there = {(ask.item.id, s) for ask in chunk for s in ask.samples} & keeper.there
        means.tick(len(there))
        wanted = chunk if model.whole_chunks else list(_rest(chunk, there))
        if len(there) < sum(len(ask.samples) for ask in chunk):
            for part in keeper.purse.parts(wanted):
                model.answer(part, plan, keeper.keep)
    return keeper.written(batch, plan, samples_of(plan, settings))


class Keeper:
    """What there is of a model's answers, and what is added to it."""

    def __init__(self, folder: Path, model: Model, settings: Settings, purse: Purse, means: Means):
        self.folder, self.model, self.settings, self.purse, self.means = folder, model, settings, purse, means
        answers = [a for a in read_answers(folder, means.tell) if a.model == model.name]
        lost = [m for m in read_missing(folder, means.tell) if m.model == model.name]
        self.there: set[Key] = {(one.item, one.sample) for one in (*answers, *lost)}
        self.revisions = dict.fromkeys(str(a.columns[SERVED]) for a in answers if SERVED in a.columns)
        self.failed: dict[Key, Missing] = {}
        self.made = 0

    def binding(self, batch: Batch) -> tuple[bool, bool]:
        """Whether there is anything of this model, and of this model to these items."""
        items = {item.id for item in batch.items}
        return bool(self.there), any(item in items for item, _ in self.there)

    def keep(self, found: Sequence[Made]) -> None:
        """RunError before an answer of another revision is added."""
        for one in found:
            self.purse.note(one)
        new = [one for one in found if (one.item, one.sample) not in self.there]
        answers = [one for one in new if isinstance(one, Answer)]
        for answer in answers:
            self._check_revision(str(answer.columns.get(SERVED, "")))
        append_answers(self.folder, answers)
        append_missing(self.folder, [one for one in new if isinstance(one, Missing) and not one.again])
        failed = {(one.item, one.sample): one for one in new if isinstance(one, Missing) and one.again}
        self.failed |= failed
        self.there |= {(one.item, one.sample) for one in new} - failed.keys()
        self.made += len(answers)
        self.means.tick(len(new))

    def _check_revision(self, served: str) -> None:
        changed = other_revision(self.revisions, served)
        if changed and not self.settings.allow_revision:
            raise RunError(f"{self.model.name}: answers in {self.folder} {changed} (NAME=... before the model)")
        if served:
            self.revisions[served] = None

    def written(self, batch: Batch, plan: Plan, samples: Sequence[int]) -> Written:
        order = {item.id: i for i, item in enumerate(batch.items)}
        tell = self.means.tell
        answers = [a for a in read_answers(self.folder, tell) if a.model == self.model.name and a.item in order]
        lost = {(m.item, m.sample): m for m in read_missing(self.folder, tell) if m.model == self.model.name}
        there = {(a.item, a.sample) for a in answers}
        missing = [
            lost.get((item, s)) or self.failed.get((item, s)) or self._unasked(item, s)
            for item in order
            for s in samples
            if (item, s) not in there
        ]
        if len(self.revisions) > 1:
            tell(f"{self.model.name}: its answers were written by {' and '.join(self.revisions)}")
        return Written(
            model=self.model.name, task=batch.task.name, plan=plan, made=self.made, missing=missing,
            answers=sorted(answers, key=lambda a: (order[a.item], a.sample)),
        )  # fmt: skip

    def _unasked(self, item: str, sample: int) -> Missing:
        why = f"{UNASKED}: {self.means.budget.told}"
        return Missing(item=item, model=self.model.name, sample=sample, why=why, again=True)


def _rest(chunk: Sequence[Ask], there: set[Key]) -> Iterator[Ask]:
    """What of a chunk is not there, each answer by itself."""
    for ask in chunk:
        for sample, seed in zip(ask.samples, ask.seeds, strict=True):
            if (ask.item.id, sample) not in there:
                yield Ask(item=ask.item, samples=(sample,), seeds=(seed,))


def samples_of(plan: Plan, settings: Settings) -> tuple[int, ...]:
    """Numbers of the answers to each item."""
    return tuple(range(settings.num_samples if plan.mode == "write" else 1))


def chunks(items: Sequence[Item], plan: Plan, settings: Settings, side_by_side: int) -> Iterator[list[Ask]]:
    """As many items as are answered side by side, at least one."""
    samples = samples_of(plan, settings)
    size = max(1, side_by_side // len(samples))
    for start in range(0, len(items), size):
        yield [
            Ask(item=item, samples=samples, seeds=tuple(seed_for(settings.seed, item.id, s) for s in samples))
            for item in items[start : start + size]
        ]


def seed_for(seed: int, item: str, sample: int) -> int:
    """Of one answer: it depends on the item itself, not on its place among others."""
    return seed_of(seed % 2**63, int(digest_of(item)[:15], 16), sample)


def told_of(batch: Batch, plan: Plan, settings: Settings) -> dict[str, Any]:
    """What a task's answers depend on, beside the model."""
    decoding = settings.decoding() if plan.mode == "write" else {k: settings.decoding()[k] for k in ("form", "system")}
    shots = batch.task.shots.count if batch.task.shots and batch.shots is None else batch.shots or 0
    return {"task": batch.task.identity(), "shots": shots, "decoding": decoding, "plan": asdict(plan)}


# ---- what could not be made -----------------------------------------------------------------------------------------


def append_missing(folder: Path, rows: Sequence[Missing]) -> None:
    for row in rows:
        append_lines(writer_file(Path(folder) / MISSING, row.model), [asdict(row)])


def read_missing(folder: Path, tell: Tell = warn) -> list[Missing]:
    """Each once; an answer that is there after all is told by whoever reads both."""
    found = [Missing(**row) for _, row in read_folder(Path(folder) / MISSING, tell)]
    return list({(m.item, m.model, m.sample): m for m in found}.values())
