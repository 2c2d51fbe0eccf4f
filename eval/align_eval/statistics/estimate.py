"""A number as it is told: with its interval, the method that made it, and on how much it rests."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """`value` None: it could not be made, and `why` says so; nothing else stands in for it."""

    value: float | None
    low: float | None = None
    high: float | None = None
    level: float = 0.95  # of the interval
    n: int = 0  # numbers that it is made of
    clusters: int | None = None  # independent units among them, such as prompts
    method: str = ""  # of the interval: "Wilson", "bootstrap over prompts, 1000 resamples, seed 0"
    unit: str = ""  # share, points, characters, nats
    why: str = ""
