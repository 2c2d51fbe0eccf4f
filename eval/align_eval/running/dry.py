"""What a command would ask for, before anything is asked: items, calls and tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from align.judges.budget import Cost
from align.system.lines import Tell, warn
from align.system.terminal import say
from align_eval.generation.affording import cost_of
from align_eval.generation.answers import Batch, plan_of, read_missing, samples_of
from align_eval.generation.asked import Ask, Model
from align_eval.generation.settings import Settings, budget_of
from align_eval.store import read_answers


@dataclass(frozen=True, kw_only=True)
class Foretold:
    """Of a model's answers to a task that are not there yet."""

    model: str
    task: str
    items: int
    answers: int  # to be made
    cost: Cost

    def __str__(self) -> str:
        cost = self.cost if self.cost.calls or not self.answers else "no model is asked"
        return f"{self.task} by {self.model}: {self.items:,} items, {self.answers:,} answers to make; {cost}"


def costs(folder: Path, models: Sequence[Model], batches: Sequence[Batch], settings: Settings) -> Iterator[Foretold]:
    """Model by model. UserError as for the real thing, weights apart."""
    for model in models:
        for batch in batches:
            yield _cost(folder, model, batch, settings, warn)


def tell_costs(folder: Path, models: Sequence[Model], batches: Sequence[Batch], settings: Settings) -> None:
    """A line for each, and whether the budget has room for all of them."""
    whole = Cost()
    for one in costs(folder, models, batches, settings):
        say(str(one))
        whole += one.cost
    if foretold := budget_of(settings).foretold(whole):
        say(foretold)


def _cost(folder: Path, model: Model, batch: Batch, settings: Settings, tell: Tell) -> Foretold:
    plan = plan_of(model, batch.task, settings)
    there = {(a.item, a.sample) for a in read_answers(folder, tell) if a.model == model.name}
    there |= {(m.item, m.sample) for m in read_missing(folder, tell) if m.model == model.name}
    left = [
        Ask(item=item, samples=samples, seeds=samples)
        for item in batch.items
        if (samples := tuple(s for s in samples_of(plan, settings) if (item.id, s) not in there))
    ]
    return Foretold(
        model=model.name, task=batch.task.name, items=len(batch.items), cost=cost_of(model, left, plan),
        answers=sum(len(ask.samples) for ask in left),
    )  # fmt: skip
