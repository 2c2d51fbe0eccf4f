"""Line charts: readable without a script, and the numbers from which one makes them anew where it runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from align.report.parts.axes import BOTTOM, LEFT, RIGHT, TOP, Axis, across, across_ticks, apart, level, up_ticks
from align.report.parts.figures import HEIGHT, WIDTH, Dot, Drawn, Figure, Key, Path, Tick
from align.report.parts.points import Curve, bucket_means, moving_average, thin, window_of
from align.report.text import Number, amount, exact, short
from align.system.terminal import visible

ROUNDING = 3e-7  # of the larger end: values nearer than that are one, some of them in float32
READ = 400  # buckets of a line that a reader can zoom into
DRAWN_DOTS = 60  # evaluations of a line that are drawn

Points = Sequence[tuple[Number, Number]]
Error = Number | tuple[Number, Number] | None  # a standard error, or an interval's ends
Estimate = tuple[Number, Number, Error]


@dataclass(frozen=True, kw_only=True)
class Series:
    """A line of (step, value), or evaluations of (step, value, standard error or interval)."""

    label: str
    slot: int  # which colour
    line: Points = ()
    smoothed: bool = False  # draws the line faintly under its moving average
    dots: Sequence[Estimate] = ()
    joined: bool = True  # the dots, by a thin line
    listed: bool = True  # in the legend


@dataclass(frozen=True, kw_only=True)
class Chart:
    title: str
    series: Sequence[Series]
    share: bool = False  # values between 0 and 1, shown in per cent
    log: bool = False
    zero: bool = False  # the axis begins at 0
    guide: tuple[Number, str] | None = None  # a level to compare with
    across: str = "step"  # what the horizontal axis counts


def chart(spec: Chart) -> Figure:
    xs = [x for s in spec.series for x in (*_ends(Curve.of(s.line).steps), *(d[0] for d in s.dots))]
    assert xs, f"chart {spec.title} has nothing to draw"
    x, y = across(min(xs), max(xs)), _value_axis(spec)
    rules, ticks = [level(y, tick) for tick in y.ticks(4)], up_ticks(y, share=spec.share) + across_ticks(x, spec.across)
    if spec.guide:
        rules.append(level(y, spec.guide[0], "guide"))
        ticks.append(Tick(WIDTH - RIGHT, y(spec.guide[0]) - 4, "end", spec.guide[1]))
    return Figure(
        title=spec.title,
        aloud=summary(spec),
        rules=rules,
        ticks=ticks,
        drawn=[_drawn(s, x, y, spec) for s in spec.series],
        latest=_latest(spec),
        legend=_legend(spec),
        many=len({s.slot for s in spec.series}) > 2,
        data=_data(spec),
    )


def _value_axis(spec: Chart) -> Axis:
    ys = [y for s in spec.series for y in _ends(Curve.of(s.line).values)]
    for s in spec.series:
        ys += [end for _, y, e in s.dots for end in reach(y, e)]
    ys += [spec.guide[0]] if spec.guide else []
    low, high = min(ys), max(ys)
    if spec.log:
        return Axis(low / 1.2, high * 1.2, HEIGHT - BOTTOM, TOP, log=True)
    apart_at_all = high - low > ROUNDING * max(abs(low), abs(high))
    pad = (high - low) * 0.06 if apart_at_all else abs(high) * 0.1 or 1.0
    floor = 0.0 if low >= 0 and (spec.zero or low < 0.35 * high) else low - pad
    ceiling = min(high + pad, 1.0) if spec.share and high <= 1 else high + pad
    return Axis(floor, apart(floor, max(ceiling, floor + pad)), HEIGHT - BOTTOM, TOP)


def reach(value: Number, error: Error) -> tuple[Number, Number]:
    """Where a whisker begins and ends."""
    return error if isinstance(error, tuple) else (value - (error or 0), value + (error or 0))


def _ends(values: np.ndarray) -> Iterator[float]:
    """The least and the largest; nothing of nothing."""
    return iter((float(values.min()), float(values.max())) if len(values) else ())


# ---- one series -----------------------------------------------------------------------------------------------------


def _drawn(series: Series, x: Axis, y: Axis, spec: Chart) -> Drawn:
    paths: list[Path] = []
    if series.line:
        smooth = series.smoothed and window_of(len(series.line)) > 1
        paths.append(Path("line faint" if smooth else "line", path(thin(series.line), x, y)))
        if smooth:
            paths.append(Path("line", path(thin(_smooth(series.line, spec.log)), x, y)))
    dots = _some(series.dots, DRAWN_DOTS)
    if series.joined and dots:
        paths += _band(dots, x, y)
    words = [f"{spec.across} {short(a)}: {series.label} {_amount(b, e, share=spec.share)}" for a, b, e in dots]
    rings = [
        Dot(x=x(a), y=y(b), words=said, whiskers=_whisker(a, b, e, x, y) if e else "")
        for (a, b, e), said in zip(dots, words, strict=True)
    ]
    return Drawn(label=series.label, slot=series.slot, paths=paths, dots=rings)


def _some(dots: Sequence[Estimate], buckets: int) -> list[Estimate]:
    kept = {a for a, _ in thin([d[:2] for d in dots], buckets)}
    return [d for d in dots if d[0] in kept]


def _smooth(line: Points, log: bool) -> Points:
    """The moving average as the eye takes it: on a logarithmic axis of the logarithms, so a spike is no plateau."""
    if not log:
        return moving_average(line)
    curve = Curve.of(line)
    smooth = moving_average(Curve(curve.steps, np.log10(curve.values)))
    return Curve(curve.steps, 10**smooth.values)


def path(points: Points, x: Axis, y: Axis) -> str:
    if len(points) == 1:
        return f"M{x(points[0][0]) - 3} {y(points[0][1])}h6"
    places = zip(x.places([a for a, _ in points]), y.places([b for _, b in points]), strict=True)
    return "M" + "L".join(f"{a} {b}" for a, b in places)


def _band(dots: Sequence[Estimate], x: Axis, y: Axis) -> Iterator[Path]:
    """Of one standard error or of intervals, and the line through the means."""
    upper = [f"{x(a)} {y(_within(y, reach(b, e)[1]))}" for a, b, e in dots]
    lower = [f"{x(a)} {y(_within(y, reach(b, e)[0]))}" for a, b, e in dots]
    if len(dots) > 1:
        yield Path("band", f"M{'L'.join(upper + lower[::-1])}Z")
    yield Path("line thin", path([d[:2] for d in dots], x, y))


def _whisker(a: Number, b: Number, error: Error, x: Axis, y: Axis) -> str:
    low, high = reach(b, error)
    return f"M{x(a)} {y(_within(y, high))}L{x(a)} {y(_within(y, low))}"


def _within(y: Axis, value: Number) -> Number:
    """A whisker below zero has no place on a logarithmic axis."""
    return max(y.low, value) if y.log else value


def _amount(value: Number, error: Error, *, share: bool) -> str:
    if not isinstance(error, tuple):
        return amount(value, error, share=share)
    low, high = (f"{100 * end:.1f}" if share else short(end) for end in error)
    return f"{amount(value, None, share=share)} [{low}, {high}]"


# ---- beside the drawing ---------------------------------------------------------------------------------------------


def _latest(spec: Chart) -> str:
    """The last value of a lone series."""
    if len({s.slot for s in spec.series}) > 1:
        return ""
    last = spec.series[-1]
    if last.dots:
        _, value, error = last.dots[-1]
        return exact(value, _amount(value, error, share=spec.share))
    return exact(last.line[-1][1], amount(last.line[-1][1], share=spec.share))


def _legend(spec: Chart) -> list[Key]:
    if len(spec.series) == 1 and not spec.series[0].dots:
        return []
    return [Key(label=s.label, slot=s.slot, look="ring" if s.dots else "bar") for s in spec.series if s.listed]


def summary(spec: Chart) -> str:
    """The chart in a sentence, for those who cannot see it."""
    told: list[str] = []
    for s in spec.series:
        points = Curve.of(s.line or [d[:2] for d in s.dots])
        low, high = points[int(points.values.argmin())], points[int(points.values.argmax())]
        told.append(
            f"{s.label}: {len(points)} points from {short(points[0][1])} to {short(points[-1][1])}, "
            f"lowest {short(low[1])} at {spec.across} {short(low[0])}, highest {short(high[1])} at {short(high[0])}"
        )
    return f"{spec.title}. {'; '.join(told)}."


def _data(spec: Chart) -> dict[str, Any]:
    """What charts.js reads: for each series its points, and means of buckets where there are more than it is given."""
    return {
        "share": spec.share, "log": spec.log, "zero": spec.zero, "across": spec.across,
        "guide": spec.guide and [spec.guide[0], visible(spec.guide[1])],
        "plot": [LEFT, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM], "series": [_told(s) for s in spec.series],
    }  # fmt: skip


def _told(series: Series) -> dict[str, Any]:
    dots = _some(series.dots, READ)
    points = thin(series.line, READ) if series.line else [d[:2] for d in dots]
    found: dict[str, Any] = {"label": visible(series.label), "slot": series.slot, "points": pairs(points)}
    found |= {} if series.listed else {"listed": False}
    if dots:
        ends = [reach(b, e) if e is not None else (None, None) for _, b, e in dots]
        found |= {"joined": series.joined, "ends": [[_rounded(end) for end in both] for both in ends]}
    if series.line and series.smoothed and (window := window_of(len(series.line))) > 1:
        found["smooth"] = window / len(series.line)
        if len(points) < len(series.line):
            found["means"] = pairs(bucket_means(series.line, READ))
    return found


def pairs(points: Points) -> list[list[Number]]:
    """For a reader's eye: five digits."""
    return [[int(x) if x == int(x) else x, float(f"{y:.5g}")] for x, y in points]


def _rounded(value: Number | None) -> Number | None:
    return None if value is None else float(f"{value:.5g}")
