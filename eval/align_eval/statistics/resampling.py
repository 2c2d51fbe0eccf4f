"""Intervals by resampling independent units: prompts, not the games or samples that one prompt has several of.

A unit's numbers are averaged first, so that every prompt weighs the same; then whole units are drawn with replacement.
The interval is between percentiles of what the resamples give. Plain percentiles are those of a normal interval with
the deviation of n, not n - 1, values, which is too narrow where units are few; they are widened to those of Student's t
(Hesterberg, "What Teachers Should Know About the Bootstrap", 2015, section 5.3.2: the expanded percentile interval).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

from align_eval.statistics.estimate import Estimate

CHUNK = 400_000  # numbers of a block of resamples, which stays near the processor
Statistic = Callable[[np.ndarray], np.ndarray]  # (R, n) counts of units -> (R,) or (R, K) values


@dataclass(frozen=True, kw_only=True)
class Resampling:
    """How intervals are made; told with every number."""

    num: int = 1000  # resamples
    seed: int = 0
    level: float = 0.95

    def __post_init__(self):
        if self.num < 2 or not 0 < self.level < 1:
            raise ValueError(f"{self.num} resamples at level {self.level}: expected 2 or more, and a level in (0, 1)")

    def told(self, units: str = "prompts") -> str:
        return f"expanded percentile bootstrap over {units}, {self.num} resamples, seed {self.seed}"


USUAL = Resampling()


def by_unit(values: Sequence[float] | np.ndarray, units: Sequence[Hashable]) -> np.ndarray:
    """(n,) the mean of each unit's values, in the order in which the units appear."""
    place: dict[Hashable, int] = {}
    index = np.array([place.setdefault(u, len(place)) for u in units], dtype=np.intp)
    numbers = np.asarray(values, dtype=np.float64)
    if len(numbers) != len(index):
        raise ValueError(f"{len(numbers)} values of {len(index)} units")
    return np.bincount(index, numbers, len(place)) / np.bincount(index, minlength=len(place))


def draws(num_units: int, how: Resampling) -> Iterator[np.ndarray]:
    """Blocks (r, n) of how often each unit is drawn, in all `how.num` rows. The same for the same n and seed."""
    random = np.random.default_rng(how.seed)
    block = max(1, min(how.num, CHUNK // max(1, num_units)))
    for start in range(0, how.num, block):
        rows = min(block, how.num - start)
        drawn = random.integers(num_units, size=(rows, num_units))
        drawn += np.arange(rows)[:, None] * num_units
        yield np.bincount(drawn.ravel(), minlength=rows * num_units).reshape(rows, num_units).astype(np.float64)


def resample(statistic: Statistic, num_units: int, how: Resampling = USUAL) -> np.ndarray:
    """(R,) or (R, K) what the resamples give."""
    return np.concatenate([np.asarray(statistic(counts)) for counts in draws(num_units, how)])


def tails(num_units: int, level: float) -> tuple[float, float]:
    """The two percentiles (0 to 100), those of Student's t on n - 1 degrees of freedom."""
    wide = math.sqrt(num_units / (num_units - 1)) * stats.t.ppf((1 + level) / 2, num_units - 1)
    tail = float(special.ndtr(-wide)) * 100
    return tail, 100 - tail


def interval(resampled: np.ndarray, num_units: int, level: float) -> tuple[float, float]:
    """The expanded percentile interval of (R,) values, linear between order statistics."""
    low, high = np.percentile(resampled, tails(num_units, level))
    return float(low), float(high)


def of_statistic(statistic: Statistic, num_units: int, how: Resampling = USUAL, unit: str = "") -> Estimate:
    """Any statistic of how often each unit counts: its value at once each, with its interval."""
    if num_units == 0:
        return Estimate(value=None, level=how.level, unit=unit, why="nothing was measured")
    value = float(np.asarray(statistic(np.ones((1, num_units))))[0])
    if not math.isfinite(value):
        return Estimate(value=None, level=how.level, n=num_units, clusters=num_units, unit=unit, why="is not defined")
    bare = Estimate(value=value, level=how.level, n=num_units, clusters=num_units, unit=unit)
    if num_units < 2:
        return _without(bare, "one prompt alone has no interval")
    found = resample(statistic, num_units, how)
    kept = found[np.isfinite(found)]
    if len(kept) < 0.9 * len(found):
        return _without(bare, f"{len(found) - len(kept)} of {len(found)} resamples had no value")
    if np.ptp(kept) <= 1e-12 * max(1.0, abs(value)):
        return _without(bare, "all prompts have the same value, which says nothing of how others may differ")
    low, high = interval(kept, num_units, how.level)
    left_out = f"; {len(found) - len(kept)} had no value" if len(kept) < len(found) else ""
    return Estimate(
        value=value, low=low, high=high, level=how.level, n=num_units, clusters=num_units,
        method=how.told() + left_out, unit=unit,
    )  # fmt: skip


def mean(values: np.ndarray, how: Resampling = USUAL, unit: str = "") -> Estimate:
    """The mean over units, one number each."""
    numbers = np.asarray(values, dtype=np.float64)
    return of_statistic(lambda counts: counts @ numbers / counts.sum(1), len(numbers), how, unit)


def difference(ours: np.ndarray, theirs: np.ndarray, how: Resampling = USUAL, unit: str = "") -> Estimate:
    """The mean of `ours` less that of `theirs` on the same units: drawn together, so what both share goes out."""
    return mean(np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64), how, unit)


def ratio(above: np.ndarray, below: np.ndarray, how: Resampling = USUAL, unit: str = "") -> Estimate:
    """The sum over units of one number by that of another, such as rewards by tokens."""
    up, down = np.asarray(above, dtype=np.float64), np.asarray(below, dtype=np.float64)

    def of(counts: np.ndarray) -> np.ndarray:
        sums = counts @ down
        return np.divide(counts @ up, sums, out=np.full(len(counts), math.nan), where=sums != 0)

    return of_statistic(of, len(up), how, unit)


def _without(bare: Estimate, why: str) -> Estimate:
    return Estimate(value=bare.value, level=bare.level, n=bare.n, clusters=bare.clusters, unit=bare.unit, why=why)
