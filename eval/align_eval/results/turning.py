"""Two models are side by side once: what was written as B against A is turned where A against B comes after it."""

from __future__ import annotations

from dataclasses import replace

from align_eval.results.document import Difference, Pair, Results
from align_eval.statistics.estimate import Estimate


def as_in(old: Results, new: Results) -> Results:
    """`old`, its rows of two the way round that `new` has them."""
    parts = old.sections
    pairs = {(row.b, row.a, row.judge) for row in new.sections.pairs}
    gaps = {(row.b, row.a) for row in new.sections.differences}
    judges = {(row.b, row.a) for row in new.sections.agreement}
    turned = replace(
        parts,
        pairs=[_pair(row) if (row.a, row.b, row.judge) in pairs else row for row in parts.pairs],
        differences=[_difference(row) if (row.a, row.b) in gaps else row for row in parts.differences],
        agreement=[replace(r, a=r.b, b=r.a) if r.b and (r.a, r.b) in judges else r for r in parts.agreement],
    )
    return replace(old, sections=turned)


def _pair(row: Pair) -> Pair:
    return replace(
        row, a=row.b, b=row.a, wins=row.losses, losses=row.wins, win_rate=_less(1.0, row.win_rate),
        lc_win_rate=row.lc_win_rate and _less(1.0, row.lc_win_rate),
    )  # fmt: skip


def _difference(row: Difference) -> Difference:
    return replace(row, a=row.b, b=row.a, difference=_less(0.0, row.difference))


def _less(whole: float, estimate: Estimate) -> Estimate:
    """`whole` less it, and so its interval."""

    def turned(value: float | None) -> float | None:
        return None if value is None else whole - value

    return replace(estimate, value=turned(estimate.value), low=turned(estimate.high), high=turned(estimate.low))
