"""A critic that is a model of its own: what it makes in a pass beside the policy, and how long it learns alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from align.scoring.layout import Rows

VALUES = "values"
WINDOW = 5  # steps, or experiences, whose mean is compared with that of as many before them


Made = Mapping[str, Mapping[str, Tensor]]  # member -> column -> values


@dataclass(frozen=True)
class Together:
    """The columns of several models, as if one made them."""

    policy: Any  # a scorer, or the prepared module around one; makes what the others do not
    others: Mapping[str, Any]  # column -> likewise, the model that makes it
    idle: bool = False  # the policy does not learn: no gradient is kept of it

    @property
    def training(self) -> bool:
        return all(module.training for module in self.others.values())

    def train(self, mode: bool = True) -> Any:
        for module in (self.policy, *self.others.values()):
            module.train(mode)

    def __call__(
        self, rows: Rows, columns: Sequence[str], num_chunks: int, temperature: float = 1.0
    ) -> dict[str, Tensor]:
        own = tuple(c for c in columns if c not in self.others)
        made: dict[str, Tensor] = {}
        if own:
            with torch.no_grad() if self.idle else nullcontext():
                made |= self.policy(rows, own, num_chunks, temperature)
        for column in columns:
            if column in self.others:
                made |= self.others[column](rows, (column,), num_chunks)
        return made


def constant_but(made: Made, mine: Callable[[str], bool]) -> dict[str, dict[str, Tensor]]:
    """What the loss of a learner sees: the columns that it does not make are constants."""
    return {m: {c: v if mine(c) else v.detach() for c, v in columns.items()} for m, columns in made.items()}


@dataclass(frozen=True)
class Warmup:
    """How long the critic learns alone."""

    steps: int = 0  # at most
    flat: float = 0.0  # ends before, once the critic gets better by less than this share; 0: not before

    def alone(self, step: int, losses: Sequence[float], explained: Sequence[float] = ()) -> bool:
        """Whether the step after `step` is the critic's alone; what it has done so far are the value losses of all
        steps, and the shares of the returns' variance that it foresaw, of those experiences that had any."""
        settled = not explained or has_settled(explained, self.flat)
        return step < self.steps and not (self.flat and is_flat(losses, self.flat) and settled)


def is_flat(losses: Sequence[float], share: float) -> bool:
    """Whether, anywhere so far, a window's mean loss was less than `share` below that of the window before it."""
    return any(after > (1 - share) * before for before, after in _windows(losses))


def has_settled(explained: Sequence[float], share: float) -> bool:
    """Whether, anywhere so far, a window's mean was less than `share` above that of the window before it."""
    return any(after < before + share for before, after in _windows(explained))


def _windows(values: Sequence[float]) -> Iterator[tuple[float, float]]:
    """Means of neighbouring windows."""
    for end in range(2 * WINDOW, len(values) + 1):
        before, after = values[end - 2 * WINDOW : end - WINDOW], values[end - WINDOW : end]
        yield sum(before) / WINDOW, sum(after) / WINDOW
