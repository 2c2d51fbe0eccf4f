"""Two runs' metrics on the test split side by side: paired differences where both saw the same rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from align.errors import UserError
from align.report.folder import read
from align.report.headline import compare, paired
from align.report.measures import Measure


def compare_runs(before: Path, after: Path) -> Iterator[str]:
    """A head line, then a line for each metric that both have. UserError where there is nothing to compare."""
    ours, theirs = _tested(after), _tested(before)
    shared = [name for name in theirs if name in ours]
    if not shared:
        raise UserError(
            f"{before} and {after} have no test metric in common; they have {', '.join(theirs)} and {', '.join(ours)}"
        )
    first, second = (getattr(read(path), "method", "a pipeline") for path in (before, after))
    if first != second:
        yield f"{first} and {second} are different methods: their losses and rewards are different quantities"
    heads = (before.name, after.name) if before.name != after.name else (str(before), str(after))
    yield f"{'metric':24} {heads[0]:>20} {heads[1]:>20} {'difference':>20}"
    for name in shared:
        how = f"paired, {len(ours[name].rows)} rows" if paired(ours[name], theirs[name]) else "unpaired"
        gap = compare(ours[name], theirs[name])
        yield f"{name:24} {_shown(theirs[name]):>20} {_shown(ours[name]):>20} {_shown(gap):>20}  {how}"


def _tested(path: Path) -> dict[str, Measure]:
    run = read(path)
    found = getattr(run, "test", {})
    if not found:
        raise UserError(f"{path}: has no test.json; give its recipe a data.test and train it to the end")
    return found


def _shown(measure: Measure) -> str:
    error = f" ± {measure.stderr:.4f}" if measure.stderr is not None else ""
    return f"{measure.value:.4f}{error}"
