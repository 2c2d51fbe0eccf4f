"""Two runs' metrics on the test split side by side: paired differences where both saw the same rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from align.errors import UserError
from align.methods.metrics import About, about
from align.report.alike import alike
from align.report.folder import Run, read
from align.report.headline import compare, paired
from align.report.measures import Measure


def compare_runs(before: Path, after: Path) -> Iterator[str]:
    """A head line, then a line for each metric that both have. UserError where there is nothing to compare."""
    theirs, ours, shared, apart = tested(before, after)
    if apart:
        yield f"not compared, for the two runs mean different quantities by it: {', '.join(apart)}"
    told = {**_run(before).about, **_run(after).about}
    heads = (before.name, after.name) if before.name != after.name else (str(before), str(after))
    yield f"{'metric':24} {heads[0]:>20} {heads[1]:>20} {'difference':>20}"
    for name in shared:
        how = f"paired, {len(ours[name].rows)} rows" if paired(ours[name], theirs[name]) else "unpaired"
        gap = compare(ours[name], theirs[name])
        verdict = _verdict(about(name, told), gap)
        yield f"{name:24} {_shown(theirs[name]):>20} {_shown(ours[name]):>20} {_shown(gap):>20}  {how}{verdict}"


class Tested(NamedTuple):
    """The test metrics of two runs."""

    before: dict[str, Measure]
    after: dict[str, Measure]
    shared: list[str]  # that both have, and mean the same by
    apart: list[str]  # that both have, and mean different quantities by, as by the losses of two methods


def tested(before: Path, after: Path) -> Tested:
    """UserError where there is nothing to compare."""
    first, second = _run(before), _run(after)
    both = [name for name in first.test if name in second.test]
    shared = [name for name in both if alike(name, first, second)]
    if not shared:
        why = f"; they mean different quantities by {', '.join(both)}" if both else ""
        raise UserError(
            f"{before} and {after} have no test metric in common{why}; they have {', '.join(first.test)} and "
            f"{', '.join(second.test)}"
        )
    return Tested(first.test, second.test, shared, [name for name in both if name not in shared])


def _verdict(what: About, gap: Measure) -> str:
    """Which way the second run differs from the first, where that is more than two standard errors."""
    if not what.better or gap.stderr is None or abs(gap.value) <= 2 * gap.stderr:
        return ""
    return ", better" if (gap.value > 0) == (what.better == "larger") else ", worse"


def _run(path: Path) -> Run:
    run = read(path)
    if not isinstance(run, Run) or not run.test:
        raise UserError(f"{path}: has no test.json; give its recipe a data.test and train it to the end")
    return run


def _shown(measure: Measure) -> str:
    error = f" ± {measure.stderr:.4f}" if measure.stderr is not None else ""
    return f"{measure.value:.4f}{error}"
