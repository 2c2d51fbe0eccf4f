"""P-values of a table, adjusted together whichever commands made its rows; those of categories are a family apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from align_eval.results.document import Difference, Pair
from align_eval.statistics import tests

FAMILIES = ("pairs", "differences")  # sections
Row = TypeVar("Row", Pair, Difference)


def adjusted(rows: Sequence[Row]) -> list[Row]:
    """Of the permutation test, by Holm and by Benjamini and Hochberg; `family` says over how many p-values."""
    found = list(rows)
    for family in (False, True):
        places = [i for i, row in enumerate(found) if bool(row.category) == family]
        values = [found[i].tests.get("permutation") for i in places]
        size = sum(value is not None for value in values)
        for i, by_holm, by_bh in zip(places, tests.holm(values), tests.bh(values), strict=True):
            both = {} if by_holm is None else {"holm": by_holm, "bh": by_bh}
            found[i] = replace(found[i], adjusted=both, family=size)
    return found


def told_family(rows: Sequence[Pair | Difference]) -> str:
    """Over how many p-values those of a table are adjusted; empty where there is one alone."""
    whole = max((row.family for row in rows if not row.category), default=0)
    parts = max((row.family for row in rows if row.category), default=0)
    words = [f"{n:,} {what}" for n, what in ((whole, "comparisons"), (parts, "of categories")) if n > 1]
    return f"adjusted over {' and, apart from them, '.join(words)}, of this and of earlier commands" if words else ""
