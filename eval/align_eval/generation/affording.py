"""What a budget has room for, and what answering has cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from align.data.reading.messages import BadRow
from align.errors import UserError
from align.judges.budget import Budget, Cost
from align_eval.generation.asked import Ask, Made, Model, Plan
from align_eval.records import Answer, Item

Unit = Sequence[Ask]  # what is asked for together or not at all


def cost_of(model: Model, asks: Sequence[Ask], plan: Plan) -> Cost:
    """The most that answers may take. Where an answer is chosen, nothing is written."""
    calls = sum(len(ask.samples) for ask in asks) if model.asks else 0
    read = sum(len(ask.samples) * _read(model, ask.item, plan) for ask in asks) if model.asks else 0
    written = calls * plan.max_completion_length if plan.mode == "write" else 0
    return Cost(calls=calls, prompt_tokens=read, completion_tokens=written, exact=model.exact)


def _read(model: Model, item: Item, plan: Plan) -> int:
    try:
        return model.count(item, plan)
    except BadRow:
        return 0  # nobody will read it


@dataclass
class Purse:
    """The budget of a command, for one model and one task."""

    budget: Budget
    model: Model
    plan: Plan
    paid: dict[tuple[str, int], int | None] = field(default_factory=dict)  # of what has been answered

    def parts(self, asks: Sequence[Ask]) -> Iterator[Sequence[Ask]]:
        """What there is room for, to be answered before the next part is taken; ends early where there is none left.
        UserError where not even the whole budget would do."""
        if not self.model.asks:
            yield asks
            return
        units: list[Unit] = [asks] if self.model.whole_chunks else [[ask] for ask in asks]
        while units:
            taken = list(self._taken(units))
            if not taken:
                return
            yield [ask for unit in taken for ask in unit]
            for unit in taken:
                self.budget.settle(self._most(unit), self._paid(unit), _calls(unit))
            units = units[len(taken) :]

    def note(self, made: Made) -> None:
        """What an answer has taken: nothing, where none came."""
        self.paid[made.item, made.sample] = _tokens(made) if isinstance(made, Answer) else 0

    def _taken(self, units: Sequence[Unit]) -> Iterator[Unit]:
        for unit in units:
            most, calls = self._most(unit), _calls(unit)
            self._check(most, calls)
            if not self.budget.take(most, calls):
                return
            yield unit

    def _most(self, unit: Unit) -> int:
        if self.budget.tokens is None:
            return 0
        cost = cost_of(self.model, unit, self.plan)
        return cost.prompt_tokens + cost.completion_tokens

    def _paid(self, unit: Unit) -> int | None:
        found = [self.paid.get((ask.item.id, sample)) for ask in unit for sample in ask.samples]
        known = [tokens for tokens in found if tokens is not None]
        return sum(known) if len(known) == len(found) else None

    def _check(self, most: int, calls: int) -> None:
        """A unit that is dearer than the budget would never be asked for, however often the command is started."""
        together = f"{calls} answers that are written side by side (max_rows)" if self.model.whole_chunks else "one"
        if self.budget.calls is not None and calls > self.budget.calls:
            raise UserError(
                f"max_calls={self.budget.calls}: {self.model.name} makes {together} or none; allow so many calls, or "
                f"set max_rows={self.budget.calls}"
            )
        if self.budget.tokens is not None and most > self.budget.tokens:
            raise UserError(
                f"max_total_tokens={self.budget.tokens}: {together} of {self.model.name} may take {most:,} tokens; "
                f"allow so many, or lower max_completion_length (it is {self.plan.max_completion_length})"
                + (" or max_rows" if self.model.whole_chunks else "")
            )


def _calls(unit: Unit) -> int:
    return sum(len(ask.samples) for ask in unit)


def _tokens(answer: Answer) -> int | None:
    """Read and written; None where one of the two was not told."""
    read = answer.columns.get("prompt_tokens")
    return read + answer.num_tokens if isinstance(read, int) and answer.num_tokens is not None else None
