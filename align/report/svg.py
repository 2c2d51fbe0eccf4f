"""Line charts and histograms as inline SVG: readable without a script, with a reading of values where one runs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from align.report.points import Curve, moving_average, thin, window_of
from align.report.text import Number, amount, escape, exact, short

WIDTH, HEIGHT = 380, 214
LEFT, RIGHT, TOP, BOTTOM = 48, 10, 10, 26
SPAN = 1e-9  # of the larger end, between two ends of an axis that floats can still divide
POINTS = 120  # steps at which shares are drawn
TINY = 1e-290  # likewise, of ends that are next to nothing

Points = Sequence[tuple[Number, Number]]
Error = Number | tuple[Number, Number] | None  # a standard error, or an interval's ends
Dot = tuple[Number, Number, Error]


@dataclass(frozen=True, kw_only=True)
class Series:
    """A line of (step, value), or evaluations of (step, value, standard error or interval)."""

    label: str
    slot: int  # which colour
    line: Points = ()
    smoothed: bool = False  # draws the line faintly under its moving average
    dots: Sequence[Dot] = ()
    joined: bool = True  # the dots, by a thin line


@dataclass(frozen=True, kw_only=True)
class Chart:
    title: str
    series: Sequence[Series]
    share: bool = False  # values between 0 and 1, shown in per cent
    log: bool = False
    zero: bool = False  # the axis begins at 0
    guide: tuple[Number, str] | None = None  # a level to compare with
    across: str = "step"  # what the horizontal axis counts


@dataclass(frozen=True)
class Axis:
    """From numbers to pixels."""

    low: Number
    high: Number
    start: Number
    end: Number
    log: bool = False

    def __call__(self, value: Number) -> float:
        return self.places([value])[0]

    def places(self, values: Sequence[Number]) -> list[float]:
        """Many at once."""
        low, high = self._bend(self.low), self._bend(self.high)
        scale = (self.end - self.start) / (high - low)
        bent = map(math.log10, values) if self.log else values
        return [round(self.start + (value - low) * scale, 1) for value in bent]

    def _bend(self, value: Number) -> Number:
        return math.log10(value) if self.log else value

    def ticks(self, count: int) -> list[Number]:
        if self.log:
            first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
            decades = [10.0**p for p in range(first, last + 1, max(1, (last - first) // count + 1))]
            return decades if len(decades) > 1 else [self.low, self.high]
        rough = (self.high - self.low) / count
        power = 10.0 ** math.floor(math.log10(rough))
        unit = next(u for u in (1, 2, 2.5, 5, 10) if u * power >= rough * 0.999) * power
        first = math.ceil(self.low / unit - 1e-9)
        return [i * unit for i in range(first, math.floor(self.high / unit + 1e-9) + 1)]


# ---- the drawing ----------------------------------------------------------------------------------------------------


def chart(spec: Chart) -> str:
    """A figure with caption, legend and SVG."""
    xs = [x for s in spec.series for x in (*_ends(Curve.of(s.line).steps), *(d[0] for d in s.dots))]
    assert xs, f"chart {spec.title} has nothing to draw"
    x = Axis(low := min(xs), apart(low, max(xs) if max(xs) > low else low + 1), LEFT, WIDTH - RIGHT)
    y = _value_axis(spec)
    body = _grid(x, y, spec) + "".join(_draw(s, x, y, spec) for s in spec.series)
    read = [_told(thin(s.line or [d[:2] for d in s.dots])) for s in spec.series]
    data = {"x": [x.low, x.high, LEFT, WIDTH - RIGHT], "share": spec.share, "lines": read}
    return (
        f'<figure class="chart{" many" if len({s.slot for s in spec.series}) > 2 else ""}">'
        f"<figcaption><b>{escape(spec.title)}</b>{_latest(spec)}</figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(_summary(spec))}" '
        f'data-chart="{escape(json.dumps(data, separators=(",", ":")))}">{body}</svg>{_legend(spec)}</figure>'
    )


def _told(points: Points) -> list[list[Number]]:
    return [[x, float(f"{y:.4g}")] for x, y in points]


def _value_axis(spec: Chart) -> Axis:
    ys = [y for s in spec.series for y in _ends(Curve.of(s.line).values)]
    for s in spec.series:
        ys += [end for _, y, e in s.dots for end in reach(y, e)]
    ys += [spec.guide[0]] if spec.guide else []
    low, high = min(ys), max(ys)
    if spec.log:
        return Axis(low / 1.2, high * 1.2, HEIGHT - BOTTOM, TOP, log=True)
    pad = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    floor = 0.0 if low >= 0 and (spec.zero or low < 0.35 * high) else low - pad
    ceiling = min(high + pad, 1.0) if spec.share and high <= 1 else high + pad
    return Axis(floor, apart(floor, max(ceiling, floor + pad)), HEIGHT - BOTTOM, TOP)


def reach(value: Number, error: Error) -> tuple[Number, Number]:
    """Where a whisker begins and ends."""
    return error if isinstance(error, tuple) else (value - (error or 0), value + (error or 0))


def _ends(values: np.ndarray) -> Iterator[float]:
    """The least and the largest; nothing of nothing."""
    return iter((float(values.min()), float(values.max())) if len(values) else ())


def apart(low: Number, high: Number) -> Number:
    """The upper end of an axis: `high`, or so much more that the axis can be divided in floating point."""
    return max(high, low + max(SPAN * abs(low), SPAN * abs(high), TINY))


def _grid(x: Axis, y: Axis, spec: Chart) -> str:
    parts: list[str] = []
    for tick in y.ticks(4):
        words = f"{tick * 100:.4g} %" if spec.share else short(tick) if tick else "0"
        parts.append(f'<path class="rule" d="M{LEFT} {y(tick)}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 6}" y="{y(tick) + 3.5}" text-anchor="end">{words}</text>')
    for tick in (t for t in x.ticks(5) if t == int(t) and x(t) > LEFT + 12):
        parts.append(f'<text class="tick" x="{x(tick)}" y="{HEIGHT - 9}" text-anchor="middle">{tick:,.0f}</text>')
    parts.append(f'<text class="tick" x="{LEFT - 6}" y="{HEIGHT - 9}" text-anchor="end">{spec.across}</text>')
    if spec.guide:
        level, words = spec.guide
        parts.append(f'<path class="guide" d="M{LEFT} {y(level)}H{WIDTH - RIGHT}"/>')
        place = f'x="{WIDTH - RIGHT}" y="{y(level) - 4}"'
        parts.append(f'<text class="tick" {place} text-anchor="end">{escape(words)}</text>')
    return "".join(parts)


def _draw(series: Series, x: Axis, y: Axis, spec: Chart) -> str:
    out = ""
    if series.line:
        smooth = series.smoothed and window_of(len(series.line)) > 1
        out += f'<path class="line c{series.slot}{" faint" if smooth else ""}" d="{_path(thin(series.line), x, y)}"/>'
        if smooth:
            out += f'<path class="line c{series.slot}" d="{_path(thin(_smooth(series.line, spec.log)), x, y)}"/>'
    if series.dots:
        out += _evaluations(series, x, y, spec)
    return f"<g><title>{escape(series.label)}</title>{out}</g>"


def _smooth(line: Points, log: bool) -> Points:
    """The moving average as the eye takes it: on a logarithmic axis of the logarithms, so a spike is no plateau."""
    if not log:
        return moving_average(line)
    curve = Curve.of(line)
    smooth = moving_average(Curve(curve.steps, np.log10(curve.values)))
    return Curve(curve.steps, 10**smooth.values)


def _path(points: Points, x: Axis, y: Axis) -> str:
    if len(points) == 1:
        return f"M{x(points[0][0]) - 3} {y(points[0][1])}h6"
    across, up = x.places([a for a, _ in points]), y.places([b for _, b in points])
    return "M" + "L".join(f"{a} {b}" for a, b in zip(across, up, strict=True))


def _evaluations(series: Series, x: Axis, y: Axis, spec: Chart) -> str:
    """A band of one standard error or of intervals, the line through the means, a dot with whiskers for each."""
    kept = {a for a, _ in thin([d[:2] for d in series.dots], 60)}
    dots = [d for d in series.dots if d[0] in kept]
    low = y.low if y.log else -math.inf  # a whisker below zero has no place on a logarithmic axis
    upper = [f"{x(a)} {y(reach(b, e)[1])}" for a, b, e in dots]
    lower = [f"{x(a)} {y(max(low, reach(b, e)[0]))}" for a, b, e in dots]
    out = ""
    if series.joined:
        out += f'<path class="band c{series.slot}" d="M{"L".join(upper + lower[::-1])}Z"/>' if len(dots) > 1 else ""
        out += f'<path class="line thin c{series.slot}" d="{_path([d[:2] for d in dots], x, y)}"/>'
    for (a, b, e), top, bottom in zip(dots, upper, lower, strict=True):
        words = f"step {a:,.0f}: {series.label} {_amount(b, e, share=spec.share)}"
        whisker = f'<path d="M{top}L{bottom}"/>' if e else ""
        dot = f'<circle cx="{x(a)}" cy="{y(b)}" r="3"/>'
        out += f'<g class="dot c{series.slot}"><title>{escape(words)}</title>{whisker}{dot}</g>'
    return out


def _amount(value: Number, error: Error, *, share: bool) -> str:
    if not isinstance(error, tuple):
        return amount(value, error, share=share)
    low, high = (f"{100 * end:.1f}" if share else short(end) for end in error)
    return f"{amount(value, None, share=share)} [{low}, {high}]"


def _latest(spec: Chart) -> str:
    """What stands at the right of the caption: the last value of a lone series, and the place of the reading."""
    first = spec.series[-1] if len({s.slot for s in spec.series}) == 1 else None
    words = ""
    if first and first.dots:
        _, value, error = first.dots[-1]
        words = exact(value, _amount(value, error, share=spec.share))
    elif first:
        words = exact(first.line[-1][1], amount(first.line[-1][1], share=spec.share))
    return f"<output>{words}</output>"


def _legend(spec: Chart) -> str:
    if len(spec.series) == 1 and not spec.series[0].dots:
        return ""
    marks = ["ring" if s.dots else "bar" for s in spec.series]
    keys = [
        f'<span class="c{s.slot}"><i class="{mark}"></i>{escape(s.label)}</span>'
        for s, mark in zip(spec.series, marks, strict=True)
        if s.label
    ]
    return f'<p class="legend">{"".join(keys)}</p>'


def _summary(spec: Chart) -> str:
    """The chart in a sentence, for those who cannot see it."""
    told: list[str] = []
    for s in spec.series:
        points = Curve.of(s.line or [d[:2] for d in s.dots])
        low, high = points[int(points.values.argmin())], points[int(points.values.argmax())]
        told.append(
            f"{s.label}: {len(points)} points from {short(points[0][1])} to {short(points[-1][1])}, "
            f"lowest {short(low[1])} at step {low[0]:,.0f}, highest {short(high[1])} at step {high[0]:,.0f}"
        )
    return f"{spec.title}. {'; '.join(told)}."


# ---- shares of a whole ----------------------------------------------------------------------------------------------


def stacked(title: str, shares: Sequence[Series]) -> str:
    """Shares of one whole by step, each on those before it; all lines have the same steps."""
    curves = [Curve.of(s.line) for s in shares]
    kept = np.unique(np.linspace(0, len(curves[0]) - 1, min(len(curves[0]), POINTS)).astype(int))
    lines = [curve.where(kept) for curve in curves]
    steps = lines[0].steps.tolist()
    x = Axis(steps[0], apart(steps[0], max(steps[-1], steps[0] + 1)), LEFT, WIDTH - RIGHT)
    y, spec = Axis(0, 1, HEIGHT - BOTTOM, TOP), Chart(title=title, series=shares, share=True)
    under, body = np.zeros(len(kept)), ""
    for series, line in zip(shares, lines, strict=True):
        over = under + line.values
        top = _path(Curve(steps, over), x, y)
        back = "L".join(f"{a} {b}" for a, b in zip(x.places(steps[::-1]), y.places(under[::-1].tolist()), strict=True))
        area = f'<path class="area c{series.slot % 8}" d="{top}L{back}Z"/>' if len(steps) > 1 else ""
        words = f"{series.label}: {amount(line.values[-1], share=True)} at step {steps[-1]:,.0f}"
        body += f"<g><title>{escape(words)}</title>{area}</g>"
        under = over
    read = [_told(list(line)) for line in lines]
    data = {"x": [x.low, x.high, LEFT, WIDTH - RIGHT], "share": True, "lines": read}
    return (
        f'<figure class="chart many"><figcaption><b>{escape(title)}</b><output></output></figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(_summary(spec))}" '
        f'data-chart="{escape(json.dumps(data, separators=(",", ":")))}">{body}{_grid(x, y, spec)}</svg>'
        f"{_legend(spec)}</figure>"
    )


# ---- histograms -----------------------------------------------------------------------------------------------------


def histogram(title: str, edges: Sequence[Number], counts: Sequence[Number], slot: int = 0) -> str:
    """Bars between `edges` (one more than `counts`), each with its count as a title."""
    assert len(edges) == len(counts) + 1 > 1
    x = Axis(edges[0], edges[-1] if edges[-1] > edges[0] else edges[0] + 1, LEFT, WIDTH - RIGHT)
    y = Axis(0, max(*counts, 1) * 1.06, HEIGHT - BOTTOM, TOP)
    bars = ""
    for left, right, count in zip(edges, edges[1:], counts, strict=False):
        width = max(0.6, x(right) - x(left) - 0.8)
        size = f'x="{x(left)}" y="{y(count)}" width="{width:.1f}" height="{HEIGHT - BOTTOM - y(count):.1f}"'
        words = f"{left:.0f} to {right:.0f}: {count:,.0f}"
        bars += f'<rect class="c{slot}" {size}><title>{words}</title></rect>'
    total = sum(counts)
    grid = _grid(x, y, Chart(title=title, series=(), across="tokens"))
    return (
        f'<figure class="chart"><figcaption><b>{escape(title)}</b><output>{total:,.0f}</output></figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}: {total:,.0f} in all">'
        f"{grid}{bars}</svg></figure>"
    )
