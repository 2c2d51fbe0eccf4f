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

from align.rollout.draws import seed_of
from align.system.lines import Tell, append_lines, read_folder, warn, writer_file
from align.system.sums import digest_of
from align_eval.generation.asked import Ask, Made, Missing, Model, Plan
from align_eval.generation.identity import hold
from align_eval.generation.settings import Settings
from align_eval.records import Answer, Item
from align_eval.store import append_answers, append_items, read_answers
from align_eval.tasks.task import Task

MISSING = "missing"  # a folder beside answers/
Tick = Callable[[int], object]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A task's items, as they are asked."""

    task: Task
    items: Sequence[Item]
    shots: int | None = None


@dataclass(frozen=True, kw_only=True)
class Written:
    """What a folder holds of one model and one task."""

    model: str
    task: str
    answers: list[Answer]  # in the order of the items
    missing: list[Missing]
    made: int = 0  # answers that were made now, the others were there
    plan: Plan
    notes: list[str] = field(default_factory=list)


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


def generate(
    folder: Path, model: Model, batch: Batch, settings: Settings, tick: Tick = lambda done: None, tell: Tell = warn
) -> Written:
    """Makes what is missing of a model's answers to a task. UserError where the folder holds others of that name."""
    plan = plan_of(model, batch.task, settings)
    append_items(folder, batch.items)
    hold(folder, model, batch.task.name, told_of(batch, plan, settings))
    there = {(a.item, a.sample) for a in read_answers(folder, tell) if a.model == model.name}
    lost = {(m.item, m.sample) for m in read_missing(folder, tell) if m.model == model.name}
    made = 0

    def keep(found: Sequence[Made]) -> None:
        nonlocal made
        new = [one for one in found if (one.item, one.sample) not in there | lost]
        append_answers(folder, [one for one in new if isinstance(one, Answer)])
        append_missing(folder, [one for one in new if isinstance(one, Missing)])
        there.update((one.item, one.sample) for one in new)
        made += sum(isinstance(one, Answer) for one in new)

    for chunk in chunks(batch.items, plan, settings, model.side_by_side):
        done = {(ask.item.id, s) for ask in chunk for s in ask.samples} & (there | lost)
        tick(len(done))
        wanted = chunk if model.whole_chunks else list(_rest(chunk, done))
        if len(done) < sum(len(ask.samples) for ask in chunk):
            model.answer(wanted, plan, lambda found: (keep(found), tick(len(found)))[0])
    return _written(folder, model.name, batch, plan, made, tell)


def _rest(chunk: Sequence[Ask], done: set[tuple[str, int]]) -> Iterator[Ask]:
    """What of a chunk is not there."""
    for ask in chunk:
        left = [(s, seed) for s, seed in zip(ask.samples, ask.seeds, strict=True) if (ask.item.id, s) not in done]
        if left:
            samples, seeds = zip(*left, strict=True)
            yield Ask(item=ask.item, samples=samples, seeds=seeds)


def chunks(items: Sequence[Item], plan: Plan, settings: Settings, side_by_side: int) -> Iterator[list[Ask]]:
    """As many items as are answered side by side, at least one."""
    samples = tuple(range(settings.num_samples if plan.mode == "write" else 1))
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


def _written(folder: Path, name: str, batch: Batch, plan: Plan, made: int, tell: Tell) -> Written:
    order = {item.id: i for i, item in enumerate(batch.items)}
    answers = [a for a in read_answers(folder, tell) if a.model == name and a.item in order]
    there = {(a.item, a.sample) for a in answers}
    missing = [m for m in read_missing(folder, tell) if m.model == name and m.item in order]
    return Written(
        model=name, task=batch.task.name, plan=plan, made=made,
        answers=sorted(answers, key=lambda a: (order[a.item], a.sample)),
        missing=[m for m in missing if (m.item, m.sample) not in there],
    )  # fmt: skip
