"""A critic that is a model of its own: in every pass beside the policy, with its own optimiser."""

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


@dataclass(frozen=True)
class Beside:
    """The policy's columns and the critic's values, as if one model made them."""

    policy: Any  # scorers, or the prepared modules around them
    critic: Any
    idle: bool = False  # the policy does not learn: no gradient is kept of it

    @property
    def training(self) -> bool:
        return self.critic.training

    def train(self, mode: bool = True) -> Any:
        self.policy.train(mode)
        self.critic.train(mode)

    def __call__(
        self, rows: Rows, columns: Sequence[str], num_chunks: int, temperature: float = 1.0
    ) -> dict[str, Tensor]:
        others = tuple(c for c in columns if c != VALUES)
        made: dict[str, Tensor] = {}
        if others:
            with torch.no_grad() if self.idle else nullcontext():
                made |= self.policy(rows, others, num_chunks, temperature)
        return made | self.critic(rows, (VALUES,), num_chunks) if VALUES in columns else made


Made = Mapping[str, Mapping[str, Tensor]]  # member -> column -> values


def of_critic(made: Made) -> dict[str, dict[str, Tensor]]:
    """What the critic's loss sees: everything else is a constant."""
    return {m: {c: v if c == VALUES else v.detach() for c, v in columns.items()} for m, columns in made.items()}


def of_policy(made: Made) -> dict[str, dict[str, Tensor]]:
    """What the policy's loss sees: the values are constants."""
    return {m: {c: v.detach() if c == VALUES else v for c, v in columns.items()} for m, columns in made.items()}


@dataclass(frozen=True)
class Warmup:
    """How the critic learns, and how long it learns alone."""

    rate_of_step: Callable[[int], float]
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
