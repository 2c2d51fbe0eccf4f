"""Shares of a whole by step, and histograms."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from align.report.parts.axes import BOTTOM, LEFT, RIGHT, TOP, Axis, across, across_ticks, level, up_ticks
from align.report.parts.charts import Chart, Series, pairs, path, summary
from align.report.parts.figures import HEIGHT, WIDTH, Bar, Drawn, Figure, Key, Path
from align.report.parts.points import Curve
from align.report.text import Number, amount
from align.system.terminal import visible

POINTS = 120  # steps at which shares are drawn


def stacked(title: str, shares: Sequence[Series]) -> Figure:
    """Shares of one whole by step, each on those before it; all lines have the same steps."""
    curves = [Curve.of(s.line) for s in shares]
    kept = np.unique(np.linspace(0, len(curves[0]) - 1, min(len(curves[0]), POINTS)).astype(int))
    lines = [curve.where(kept) for curve in curves]
    steps = lines[0].steps.tolist()
    x, y = across(steps[0], steps[-1]), Axis(0, 1, HEIGHT - BOTTOM, TOP)
    under, drawn = np.zeros(len(kept)), list[Drawn]()
    for series, line in zip(shares, lines, strict=True):
        over = under + line.values
        back = "L".join(f"{a} {b}" for a, b in zip(x.places(steps[::-1]), y.places(under[::-1].tolist()), strict=True))
        area = [Path("area", f"{path(Curve(steps, over), x, y)}L{back}Z")] if len(steps) > 1 else []
        words = f"{series.label}: {amount(line.values[-1], share=True)} at step {steps[-1]:,.0f}"
        drawn.append(Drawn(label=words, slot=series.slot % 8, paths=area))
        under = over
    told = [
        {"label": visible(s.label), "slot": s.slot % 8, "points": pairs(line)}
        for s, line in zip(shares, lines, strict=True)
    ]
    return Figure(
        title=title,
        aloud=summary(Chart(title=title, series=shares)),
        drawn=drawn,
        rules=[level(y, tick) for tick in y.ticks(4)],
        ticks=up_ticks(y, share=True) + across_ticks(x, "step"),
        legend=[Key(label=s.label, slot=s.slot % 8, look="bar") for s in shares],
        many=True,
        above=True,
        data={"share": True, "stacked": True, "across": "step", "series": told,
              "plot": [LEFT, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM]},
    )  # fmt: skip


def histogram(title: str, edges: Sequence[Number], counts: Sequence[Number], slot: int = 0) -> Figure:
    """Bars between `edges` (one more than `counts`), each with its count as a title."""
    assert len(edges) == len(counts) + 1 > 1
    x = across(edges[0], edges[-1])
    y = Axis(0, max(*counts, 1) * 1.06, HEIGHT - BOTTOM, TOP)
    bars = [
        Bar(
            x=x(left),
            y=y(count),
            width=round(max(0.6, x(right) - x(left) - 0.8), 1),
            height=round(HEIGHT - BOTTOM - y(count), 1),
            words=f"{left:.0f} to {right:.0f}: {count:,.0f}",
        )
        for left, right, count in zip(edges, edges[1:], counts, strict=False)
    ]
    total = f"{sum(counts):,.0f}"
    return Figure(
        title=title,
        aloud=f"{title}: {total} in all",
        drawn=[Drawn(label="", slot=slot, bars=bars)],
        rules=[level(y, tick) for tick in y.ticks(4)],
        ticks=up_ticks(y, share=False) + across_ticks(x, "tokens"),
        latest=total,
    )
