"""Rows as Python shows them: a pandas DataFrame where that is installed, else the dictionaries themselves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Table = Any  # a DataFrame, or list[dict[str, Any]]


def table(rows: Iterable[Mapping[str, Any]], always: Iterable[str] = ()) -> Table:
    """One row for each dictionary, a column for each key, in the order of their first appearance; those that are
    `always` there have theirs also where there is no row."""
    found = [dict(row) for row in rows]
    try:
        import pandas
    except ImportError:
        return found
    return pandas.DataFrame(found, columns=list(dict.fromkeys([*always, *(key for row in found for key in row)])))
