"""Estimates of means over items, each with its interval: items are the independent units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from align_eval.statistics.estimate import Estimate
from align_eval.statistics.resampling import USUAL, by_unit, mean, ratio
from align_eval.statistics.samples import pass_at_k
from align_eval.statistics.shares import share

Row = tuple[str, float]  # item, value


def none(why: str, unit: str) -> Estimate:
    return Estimate(value=None, why=why, unit=unit)


def share_of(rows: Sequence[Row]) -> Estimate:
    """Of values between 0 and 1; an item's samples are averaged first."""
    return replace(share(_by_item(rows)), n=len(rows)) if rows else share(np.array([]))


def mean_of(rows: Sequence[Row], unit: str) -> Estimate:
    return replace(mean(_by_item(rows), USUAL, unit), n=len(rows))


def ratio_of(rows: Sequence[tuple[str, float, float]]) -> Estimate:
    """Sum over sum, such as instructions followed of all: every instruction weighs the same."""
    items = [item for item, _, _ in rows]
    parts, wholes = by_unit([part for _, part, _ in rows], items), by_unit([whole for _, _, whole in rows], items)
    return replace(ratio(parts, wholes, USUAL, "share"), n=int(sum(whole for _, _, whole in rows)))


def pass_at(rows: Sequence[Row], k: int) -> Estimate:
    """The unbiased pass@k, averaged over items; None where an item has fewer than k answers."""
    by_item: dict[str, list[float]] = {}
    for item, value in rows:
        by_item.setdefault(item, []).append(value)
    short = sum(len(values) < k for values in by_item.values())
    if short or not by_item:
        return none(f"{short} of {len(by_item)} items have fewer than {k} answers; set num_samples={k}", "share")
    found = [pass_at_k(len(values), round(sum(values)), k) for values in by_item.values()]
    return replace(share(np.clip(found, 0.0, 1.0)), n=len(rows))


def _by_item(rows: Sequence[Row]) -> np.ndarray:
    return by_unit([value for _, value in rows], [item for item, _ in rows])
