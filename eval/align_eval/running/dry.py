"""What a command would ask for, before anything is asked: items, calls and tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from align.data.reading.messages import BadRow
from align.system.lines import Tell, warn
from align_eval.generation.answers import Batch, plan_of, read_missing
from align_eval.generation.asked import Model, Plan
from align_eval.generation.settings import Settings
from align_eval.records import Item
from align_eval.store import read_answers

CHARACTERS = 4  # of a token, where nobody here can count them: English text, roughly


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of a model's answers to a task that are not there yet."""

    model: str
    task: str
    items: int
    calls: int  # answers that would be made
    prompt_tokens: int
    most_completion_tokens: int  # if every answer were as long as it may be
    counted: bool  # by the model's tokenizer; else guessed from characters


def costs(folder: Path, models: Sequence[Model], batches: Sequence[Batch], settings: Settings) -> Iterator[Cost]:
    """Model by model. UserError as for the real thing, weights apart."""
    for model in models:
        for batch in batches:
            yield _cost(folder, model, batch, settings, warn)


def _cost(folder: Path, model: Model, batch: Batch, settings: Settings, tell: Tell) -> Cost:
    plan = plan_of(model, batch.task, settings)
    there = [(a.item, a.sample) for a in read_answers(folder, tell) if a.model == model.name]
    there += [(m.item, m.sample) for m in read_missing(folder, tell) if m.model == model.name]
    samples = settings.num_samples if plan.mode == "write" else 1
    left = {item.id: samples - sum(there.count((item.id, s)) for s in range(samples)) for item in batch.items} \
        if there else {item.id: samples for item in batch.items}  # fmt: skip
    items = [item for item in batch.items if left[item.id] > 0]
    lengths, counted = _lengths(model, items, plan)
    calls = sum(left[item.id] for item in items)
    return Cost(
        model=model.name, task=batch.task.name, items=len(batch.items), calls=calls, counted=counted,
        prompt_tokens=sum(n * left[item.id] for item, n in zip(items, lengths, strict=True)),
        most_completion_tokens=calls * plan.max_completion_length if plan.mode == "write" else 0,
    )  # fmt: skip


def _lengths(model: Model, items: Sequence[Item], plan: Plan) -> tuple[list[int], bool]:
    try:
        counted = model.count(items, plan)
    except BadRow:
        counted = None
    guessed = [len(str(item.prompt)) // CHARACTERS + 1 for item in items]
    return (guessed, False) if counted is None else (counted, True)
