"""Curves of many points: kept as two arrays, thinned to what a chart can show, averaged over neighbours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

Point = tuple[float | int, float | int]  # steps are whole numbers where they were not read as an array
BUCKETS = 150  # a line keeps the lowest and the highest value of each, so at most twice as many points


class Curve(Sequence[Point]):
    """(step, value) in the order of the steps. Behaves as a list of pairs; the arrays serve what goes through all."""

    def __init__(self, steps: Any, values: Any):
        self.steps = np.asarray(steps, dtype=np.float64)
        self.values = np.asarray(values, dtype=np.float64)

    @classmethod
    def of(cls, points: Sequence[Point]) -> Curve:
        if isinstance(points, Curve):
            return points
        return cls([x for x, _ in points], [y for _, y in points])

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, which: Any) -> Any:
        if isinstance(which, slice):
            return Curve(self.steps[which], self.values[which])
        return float(self.steps[which]), float(self.values[which])

    def __iter__(self) -> Iterator[Point]:
        return zip(self.steps.tolist(), self.values.tolist(), strict=True)

    def where(self, kept: Any) -> Curve:
        return Curve(self.steps[kept], self.values[kept])


def columns(lines: Sequence[Mapping[str, float]]) -> dict[str, Curve]:
    """The curve of every key but `step`, in the order of first appearance, of lines in the order of their steps."""
    alike: dict[tuple[str, ...], list[list[float]]] = {}  # lines with the same keys make one array
    for line in lines:
        alike.setdefault(tuple(line), []).append(list(line.values()))
    parts: dict[str, list[Curve]] = {}
    for keys, rows in alike.items():
        across = dict(zip(keys, np.array(rows).T, strict=True))
        steps = across.pop("step")
        for key, values in across.items():
            parts.setdefault(key, []).append(Curve(steps, values))
    return {key: _merged(found) for key, found in parts.items()}


def _merged(found: Sequence[Curve]) -> Curve:
    steps, values = (np.concatenate(some) for some in zip(*((c.steps, c.values) for c in found), strict=True))
    return Curve(steps, values).where(np.argsort(steps, kind="stable"))


def thin(points: Sequence[Point], buckets: int = BUCKETS) -> list[Point]:
    """At most two points per bucket and the two ends, so no extreme value is lost."""
    curve = Curve.of(points)
    if len(curve) <= 2 * buckets:
        return list(curve)
    kept = {0, len(curve) - 1}
    for start, end in _borders(len(curve), buckets):
        inside = curve.values[start:end]
        kept |= {start + int(inside.argmin()), start + int(inside.argmax())}
    return list(curve.where(sorted(kept)))


def bucket_means(points: Sequence[Point], buckets: int) -> list[Point]:
    """Mean step and mean value of each bucket."""
    curve = Curve.of(points)
    borders = list(_borders(len(curve), buckets))
    return [(float(curve.steps[a:b].mean()), float(curve.values[a:b].mean())) for a, b in borders]


def _borders(count: int, buckets: int) -> Iterator[tuple[int, int]]:
    return pairwise(b * count // buckets for b in range(buckets + 1))


def window_of(count: int) -> int:
    """Steps of the moving average: about a thirtieth of the run, odd, none for short runs."""
    return count // 30 * 2 + 1 if count >= 20 else 1


def moving_average(points: Sequence[Point]) -> Curve:
    """Centred; towards the ends narrower, down to half, so that it follows steep beginnings."""
    curve = Curve.of(points)
    count = len(curve)
    reach, at = window_of(count) // 2, np.arange(count)
    sums = np.concatenate(([0.0], np.cumsum(curve.values)))
    side = np.maximum(reach // 2, np.minimum(reach, np.minimum(at, count - 1 - at)))
    start, end = np.maximum(0, at - side), np.minimum(count, at + side + 1)
    return Curve(curve.steps, (sums[end] - sums[start]) / (end - start))
