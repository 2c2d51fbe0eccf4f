"""How far two or more raters agree, beyond what chance gives. Units are items; intervals draw them again.

    observed       share of items with the same label
    cohen          two raters, each with shares of labels of their own. Cohen 1960
    fleiss         the same number of raters for each item, chance from all labels together. Fleiss 1971
    krippendorff   any number of raters, some missing; labels (nominal) or numbers (interval: squared differences)

All but the first are 1 - disagreement / disagreement by chance: 1 all agree, 0 as by chance. Where everybody always
says the same there is nothing to agree on, and the value is not defined.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Literal

import numpy as np

from align_eval.statistics.estimate import Estimate
from align_eval.statistics.resampling import USUAL, Resampling, of_statistic
from align_eval.statistics.shares import wilson

Label = Hashable
Scale = Literal["nominal", "interval"]


def observed(ours: Sequence[Label], theirs: Sequence[Label], level: float = 0.95) -> Estimate:
    return wilson(sum(a == b for a, b in zip(ours, theirs, strict=True)), len(ours), level)


def cohen(ours: Sequence[Label], theirs: Sequence[Label], how: Resampling = USUAL) -> Estimate:
    labels = {label: k for k, label in enumerate(dict.fromkeys([*ours, *theirs]))}
    size = len(labels)
    cells = np.zeros((len(ours), size * size))
    for row, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        cells[row, labels[a] * size + labels[b]] = 1

    def kappa(counts: np.ndarray) -> np.ndarray:
        table = (counts @ cells).reshape(-1, size, size) / counts.sum(1)[:, None, None]
        chance = (table.sum(2) * table.sum(1)).sum(1)
        return _beyond(1 - np.trace(table, axis1=1, axis2=2), 1 - chance)

    return of_statistic(kappa, len(ours), how)


def fleiss(rows: Sequence[Sequence[Label]], how: Resampling = USUAL) -> Estimate:
    """One row of labels for each item. ValueError where rows differ in length or have fewer than two."""
    sizes = {len(row) for row in rows}
    if len(sizes) > 1 or any(size < 2 for size in sizes):
        raise ValueError(f"items with {sorted(sizes)} raters; Fleiss needs the same number, two or more, for each")
    table = _tally(rows)
    raters = sizes.pop() if sizes else 2
    same = ((table**2).sum(1) - raters) / (raters * (raters - 1))

    def kappa(counts: np.ndarray) -> np.ndarray:
        total = counts.sum(1)
        shares = counts @ table / (total * raters)[:, None]
        return _beyond(1 - counts @ same / total, 1 - (shares**2).sum(1))

    return of_statistic(kappa, len(rows), how)


def krippendorff(rows: Sequence[Sequence[Label | None]], scale: Scale = "nominal", how: Resampling = USUAL) -> Estimate:
    """Alpha. None is a rater who said nothing; items with fewer than two labels say nothing and do not count."""
    paired = [kept for row in rows if len(kept := [label for label in row if label is not None]) > 1]
    if scale == "interval":
        return of_statistic(_interval_alpha(paired), len(paired), how)
    table = _tally(paired)
    raters = table.sum(1)
    apart = (raters**2 - (table**2).sum(1)) / (raters - 1)  # ordered pairs that differ

    def alpha(counts: np.ndarray) -> np.ndarray:
        labels, total = counts @ table, counts @ raters
        chance = (total**2 - (labels**2).sum(1)) / (total - 1)
        return _beyond(counts @ apart, chance)

    return of_statistic(alpha, len(paired), how)


def _interval_alpha(rows: Sequence[Sequence[Label]]):
    """Squared differences within items and among all values, each from sums that add up over items."""
    numbers = [np.asarray(row, dtype=np.float64) for row in rows]
    sizes = np.array([len(row) for row in numbers], dtype=np.float64)
    sums = np.array([row.sum() for row in numbers])
    squares = np.array([(row**2).sum() for row in numbers])
    apart = 2 * (sizes * squares - sums**2) / (sizes - 1)

    def alpha(counts: np.ndarray) -> np.ndarray:
        total = counts @ sizes
        return _beyond(counts @ apart, 2 * (total * (counts @ squares) - (counts @ sums) ** 2) / (total - 1))

    return alpha


def _tally(rows: Sequence[Sequence[Label]]) -> np.ndarray:
    """(items, labels) how often each was given."""
    labels = {label: k for k, label in enumerate(dict.fromkeys(label for row in rows for label in row))}
    table = np.zeros((len(rows), len(labels)))
    for place, row in enumerate(rows):
        for label, count in Counter(row).items():
            table[place, labels[label]] = count
    return table


def _beyond(seen: np.ndarray, chance: np.ndarray) -> np.ndarray:
    """1 - seen / chance, not a number where chance cannot disagree."""
    open_rows = chance > 1e-12
    return np.where(open_rows, 1 - seen / np.where(open_rows, chance, 1.0), math.nan)
