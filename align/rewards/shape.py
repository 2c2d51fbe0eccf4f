"""What is done to a completion's summed reward before the method sees it: pieces, applied in the order written."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from align.functional.advantages import whiten


@dataclass(frozen=True, kw_only=True)
class Ends:
    """How completions ended."""

    finished: Bool[Tensor, " B"]  # by themselves, not cut at the length limit
    lengths: Int[Tensor, " B"]  # tokens, of all turns


@dataclass(frozen=True, kw_only=True)
class MissingEos:
    """A completion that was cut: its reward becomes `replace` (arXiv:2403.17031), or loses `subtract`."""

    replace: float | None = None  # what it earns instead
    subtract: float = 0.0  # or what it loses

    def __post_init__(self):
        if (self.replace is None) == (self.subtract == 0.0):
            raise ValueError("takes one of replace and subtract")

    def __call__(self, rewards: Float[Tensor, " B"], ends: Ends) -> Float[Tensor, " B"]:
        instead = rewards - self.subtract if self.replace is None else torch.full_like(rewards, self.replace)
        return torch.where(ends.finished, rewards, instead)


@dataclass(frozen=True, kw_only=True)
class Clip:
    """Rewards stay within [low, high]."""

    low: float  # the least that a completion earns
    high: float  # the most

    def __post_init__(self):
        if not self.low < self.high:
            raise ValueError(f"low {self.low} is not below high {self.high}")

    def __call__(self, rewards: Float[Tensor, " B"], ends: Ends) -> Float[Tensor, " B"]:
        return rewards.clamp(self.low, self.high)


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Rewards times a constant."""

    by: float  # the constant

    def __call__(self, rewards: Float[Tensor, " B"], ends: Ends) -> Float[Tensor, " B"]:
        return rewards * self.by


@dataclass(frozen=True, kw_only=True)
class Whiten:
    """Rewards over their standard deviation in this experience; their mean stays unless `shift_mean`."""

    shift_mean: bool = False  # takes their mean away, too

    def __call__(self, rewards: Float[Tensor, " B"], ends: Ends) -> Float[Tensor, " B"]:
        white = whiten(rewards[None], torch.ones_like(rewards, dtype=torch.bool)[None], shift_mean=self.shift_mean)
        return white[0]


@dataclass(frozen=True, kw_only=True)
class Overlong:
    """DAPO's soft punishment (arXiv:2503.14476, eq. 13): 0 up to max_length - cache tokens, -1 from max_length on."""

    max_length: int  # tokens from which on it is -1
    cache: int  # tokens before, in which it grows

    def __post_init__(self):
        if not 0 < self.cache <= self.max_length:
            raise ValueError(f"cache {self.cache} is not between 1 and max_length {self.max_length}")

    def __call__(self, rewards: Float[Tensor, " B"], ends: Ends) -> Float[Tensor, " B"]:
        begins = self.max_length - self.cache
        return rewards + ((begins - ends.lengths) / self.cache).clamp(-1.0, 0.0).to(rewards.dtype)


Piece = MissingEos | Clip | Scale | Whiten | Overlong
PIECES: dict[str, type[Piece]] = {
    "missing_eos": MissingEos,
    "clip": Clip,
    "scale": Scale,
    "whiten": Whiten,
    "overlong": Overlong,
}


def piece(written: Mapping[str, Any]) -> Piece:
    """`{clip: {low: -5, high: 5}}` as the piece; ValueError says what is wrong with it."""
    if len(written) != 1:
        raise ValueError(f"expected one of {', '.join(PIECES)} with its settings, found {list(written)}")
    ((name, settings),) = written.items()
    if name not in PIECES:
        raise ValueError(f"no such piece: {name}; there are {', '.join(PIECES)}")
    known = [f.name for f in dataclasses.fields(PIECES[name])]
    if not isinstance(settings, Mapping | None):
        raise ValueError(f"{name}: expected its settings ({', '.join(known)}), found {settings!r}")
    given: dict[str, Any] = dict(settings or {})
    if unknown := [k for k in given if k not in known]:
        raise ValueError(f"{name}: no such key: {', '.join(unknown)}; it has {', '.join(known)}")
    if wrong := [k for k, v in given.items() if not isinstance(v, int | float | None)]:
        raise ValueError(f"{name}: {', '.join(wrong)} must be a number")
    whole = [f.name for f in dataclasses.fields(PIECES[name]) if f.type in ("int", "bool")]
    given = {k: v if k in whole or v is None else float(v) for k, v in given.items()}
    try:
        return PIECES[name](**given)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{name}: {error}") from None


def shaped(rewards: Float[Tensor, " B"], ends: Ends, pieces: tuple[Piece, ...]) -> Float[Tensor, " B"]:
    """All pieces, in order."""
    for each in pieces:
        rewards = each(rewards, ends)
    return rewards
