"""Two runs' metrics on the test split side by side: paired differences where both saw the same rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from align.errors import UserError
from align.methods.metrics import About, about
from align.report.folder import read
from align.report.headline import compare, paired
from align.report.measures import Measure


def compare_runs(before: Path, after: Path) -> Iterator[str]:
    """A head line, then a line for each metric that both have. UserError where there is nothing to compare."""
    theirs, ours, shared = tested(before, after)
    first, second = (getattr(read(path), "method", "a pipeline") for path in (before, after))
    if first != second:
        yield f"{first} and {second} are different methods: their losses and rewards are different quantities"
    told = {**getattr(read(before), "about", {}), **getattr(read(after), "about", {})}
    heads = (before.name, after.name) if before.name != after.name else (str(before), str(after))
    yield f"{'metric':24} {heads[0]:>20} {heads[1]:>20} {'difference':>20}"
    for name in shared:
        how = f"paired, {len(ours[name].rows)} rows" if paired(ours[name], theirs[name]) else "unpaired"
        gap = compare(ours[name], theirs[name])
        verdict = _verdict(about(name, told), gap)
        yield f"{name:24} {_shown(theirs[name]):>20} {_shown(ours[name]):>20} {_shown(gap):>20}  {how}{verdict}"


def tested(before: Path, after: Path) -> tuple[dict[str, Measure], dict[str, Measure], list[str]]:
    """The test metrics of both, and the names that both have. UserError where there is nothing to compare."""
    ours, theirs = _tested(after), _tested(before)
    shared = [name for name in theirs if name in ours]
    if not shared:
        raise UserError(
            f"{before} and {after} have no test metric in common; they have {', '.join(theirs)} and {', '.join(ours)}"
        )
    return theirs, ours, shared


def _verdict(what: About, gap: Measure) -> str:
    """Which way the second run differs from the first, where that is more than two standard errors."""
    if not what.better or gap.stderr is None or abs(gap.value) <= 2 * gap.stderr:
        return ""
    return ", better" if (gap.value > 0) == (what.better == "larger") else ", worse"


def _tested(path: Path) -> dict[str, Measure]:
    run = read(path)
    found = getattr(run, "test", {})
    if not found:
        raise UserError(f"{path}: has no test.json; give its recipe a data.test and train it to the end")
    return found


def _shown(measure: Measure) -> str:
    error = f" ± {measure.stderr:.4f}" if measure.stderr is not None else ""
    return f"{measure.value:.4f}{error}"
