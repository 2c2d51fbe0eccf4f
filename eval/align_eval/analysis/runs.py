"""The test metrics of two runs as a comparison: paired where both hold the values of the same rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from align.report.headline import paired
from align.report.measures import Measure
from align_eval.analysis.comparison import Comparison, Quantity
from align_eval.metrics_of_runs import tested
from align_eval.results.document import Difference, Scored
from align_eval.results.families import adjusted
from align_eval.statistics import tests
from align_eval.statistics.estimate import Estimate
from align_eval.statistics.resampling import Resampling, difference, mean
from align_eval.statistics.shares import discord, share, z_of


def compare_tests(before: Path, after: Path, how: Resampling) -> Comparison:
    """UserError where a folder has no test.json, or the two have no metric in common."""
    theirs, ours, shared, apart = tested(before, after)
    names = (before.name, after.name) if before.name != after.name else (str(before), str(after))
    rows, quantities, warnings = [], {}, list[str]()
    if apart:
        warnings.append(f"not compared, for the two runs mean different quantities by it: {', '.join(apart)}")
    for metric in shared:
        row, quantity = _difference(names, metric, ours[metric], theirs[metric], how)
        rows.append(row)
        quantities[metric] = quantity
        if quantity.values is None:
            warnings.append(f"{metric}: the runs do not hold values of the same rows; the difference is not paired")
    if len(rows) == 1:
        quantities = {"delta": quantities[shared[0]], **quantities}
    scores = [
        Scored(model=name, task="test", metric=metric, estimate=_mean(found[metric], how))
        for name, found in zip(names, (theirs, ours), strict=True) for metric in shared
    ]  # fmt: skip
    return Comparison(
        before=names[0], after=names[1], differences=adjusted(rows), scores=scores, quantities=quantities,
        warnings=warnings,
    )  # fmt: skip


def _difference(
    names: Sequence[str], metric: str, ours: Measure, theirs: Measure, how: Resampling
) -> tuple[Difference, Quantity]:
    if not paired(ours, theirs):
        found = _apart(ours, theirs, how.level)
        row = Difference(a=names[1], b=names[0], task="test", metric=metric, difference=found)
        return row, Quantity(estimate=found)
    mine, others = np.array(ours.rows), np.array(theirs.rows)
    gaps, binary = mine - others, _binary(mine) and _binary(others)
    found = discord(gaps, how.level) if binary else difference(mine, others, how)
    sign = tests.sign_test(int((gaps > 0).sum()), int((gaps < 0).sum()))
    row = Difference(
        a=names[1], b=names[0], task="test", metric=metric, difference=found,
        tests={"mcnemar" if binary else "sign": sign, "permutation": tests.permutation(gaps, seed=how.seed)},
        detectable=tests.detectable(gaps, how.level),
    )  # fmt: skip
    return row, Quantity(estimate=found, values=gaps, bounds=(-1.0, 1.0) if binary else None)


def _apart(ours: Measure, theirs: Measure, level: float) -> Estimate:
    """Of means over different rows, or of means that are weighed."""
    value = ours.value - theirs.value
    if ours.stderr is None or theirs.stderr is None:
        return Estimate(value=value, level=level, why="one of the two has no standard error")
    half = z_of(level) * math.hypot(ours.stderr, theirs.stderr)
    n = (ours.n or 0) + (theirs.n or 0)
    return Estimate(value=value, low=value - half, high=value + half, level=level, n=n, method="normal, not paired")


def _mean(found: Measure, how: Resampling) -> Estimate:
    rows = np.array(found.rows)
    if len(rows) > 1 and math.isclose(float(rows.mean()), found.value, rel_tol=1e-5, abs_tol=1e-7):
        return share(rows, how.level) if _binary(rows) else mean(rows, how)
    return of_error(found.value, found.stderr, found.n, how.level)


def of_error(value: float, stderr: float | None, n: int | None, level: float, unit: str = "") -> Estimate:
    """Of a mean that was told with its standard error."""
    if not stderr:
        why = "no standard error was told" if stderr is None else "all values are the same"
        return Estimate(value=value, level=level, n=n or 0, unit=unit, why=why)
    half = z_of(level) * stderr
    return Estimate(
        value=value, low=value - half, high=value + half, level=level, n=n or 0, unit=unit,
        method="normal, from the standard error",
    )  # fmt: skip


def _binary(rows: np.ndarray) -> bool:
    return bool(np.isin(rows, (0.0, 1.0)).all())
