"""Numbers as run folders hold them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A mean over rows, with its standard error where that is known."""

    value: float
    stderr: float | None = None
    n: int | None = None
    rows: tuple[float, ...] = field(default=(), repr=False)  # the values that were averaged, for paired comparisons
    ids: tuple[str, ...] = field(default=(), repr=False)  # which row each of them is
    unit: str = "rows"  # of `n`


def measures(tree: Any, prefix: str = "") -> dict[str, Measure]:
    """Every number of a nested dictionary, under its path; `{"value", "stderr", "n"}` is one number with its error."""
    found: dict[str, Measure] = {}
    for key, value in tree.items() if isinstance(tree, dict) else ():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and number(value.get("value")) is not None:
            found[name] = measure(value)
        elif isinstance(value, dict):
            found.update(measures(value, f"{name}/"))
        elif number(value) is not None:
            found[name] = measure({"value": value})
    return found


def measure(found: dict[str, Any]) -> Measure:
    """`{"value", "stderr", "n"}`, and `rows`, `ids` and `unit` where they are known."""
    value, stderr, n = (number(found.get(key)) for key in ("value", "stderr", "n"))
    rows, ids = found.get("rows"), found.get("ids")
    numbers = [number(r) for r in rows] if isinstance(rows, list) else []
    assert value is not None, "a measure has a value"
    return Measure(
        value=value,
        stderr=stderr if stderr is not None and drawable(stderr) and stderr >= 0 else None,
        n=int(n) if n is not None and drawable(n) else None,
        rows=tuple(r for r in numbers if r is not None and drawable(r)) if None not in numbers else (),
        ids=tuple(str(i) for i in ids) if isinstance(ids, list) else (),
        unit=str(found.get("unit") or "rows"),
    )


def number(value: Any) -> float | None:
    """A number of a JSON file, NaN and infinities included; None for anything else."""
    try:
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
    except OverflowError:
        return math.inf


def drawable(value: Any) -> Any:
    """Whether a number, or each of an array, is finite, and far enough from the largest float for a chart."""
    return abs(value) < 1e100
