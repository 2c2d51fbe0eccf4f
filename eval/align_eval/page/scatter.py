"""Points with intervals in both directions, as inline SVG in the look of the run report's charts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from align.report.svg import BOTTOM, LEFT, RIGHT, TOP, WIDTH, Axis
from align.report.text import MINUS, escape, short
from align_eval.results.wording import SHARE, told
from align_eval.statistics.estimate import Estimate

HEIGHT = 250
ROOM = 0.06


@dataclass(frozen=True, kw_only=True)
class Point:
    x: Estimate
    y: Estimate
    name: str  # told when pointed at
    mark: str = ""  # written beside it


@dataclass(frozen=True, kw_only=True)
class Cloud:
    """Points of one colour, joined in their order where they are a path."""

    label: str
    points: Sequence[Point]
    slot: int = 0
    joined: bool = False


@dataclass(frozen=True, kw_only=True)
class Scatter:
    title: str
    across: str  # what the horizontal axis is, with its unit
    up: str
    clouds: Sequence[Cloud]
    level: float | None = None  # a horizontal guide, such as 1/2


def scatter(spec: Scatter) -> Markup:
    """A figure; empty where no point has both numbers."""
    drawn = [(c, [p for p in c.points if p.x.value is not None and p.y.value is not None]) for c in spec.clouds]
    points = [p for _, some in drawn for p in some]
    if not points:
        return Markup("")
    x = Axis(*_ends([p.x for p in points], None), LEFT, WIDTH - RIGHT)
    y = Axis(*_ends([p.y for p in points], spec.level), HEIGHT - BOTTOM - 12, TOP + 12)
    share = points[0].y.unit == SHARE
    body = _grid(x, y, spec, share) + "".join(_cloud(c, some, x, y) for c, some in drawn if some)
    return Markup(
        f'<figure class="chart"><figcaption><b>{escape(spec.title)}</b></figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(_aloud(spec, points))}">{body}</svg>'
        f"{_legend([c for c, some in drawn if some])}</figure>"
    )


def _ends(found: Sequence[Estimate], level: float | None) -> tuple[float, float]:
    values = [v for f in found for v in (f.value, f.low, f.high) if v is not None]
    low, high = min(values), max(values)
    if level is not None:
        low, high = min(low, level), max(high, level)
    pad = (high - low) * ROOM or abs(high) * 0.1 or 1.0
    return (0.0 if 0 <= low < 0.2 * high else low - pad), high + pad


def _grid(x: Axis, y: Axis, spec: Scatter, share: bool) -> str:
    bottom = HEIGHT - BOTTOM - 12
    parts: list[str] = []
    for tick in y.ticks(4):
        words = f"{tick * 100:.4g} %" if share else short(tick) if tick else "0"
        parts.append(f'<path class="rule" d="M{LEFT} {y(tick)}H{WIDTH - RIGHT}"/>')
        parts.append(_text(LEFT - 6, y(tick) + 3.5, "end", words))
    parts += [_text(x(tick), bottom + 15, "middle", short(tick) if tick else "0") for tick in x.ticks(5)]
    parts.append(_text(WIDTH - RIGHT, HEIGHT - 4, "end", spec.across))
    parts.append(_text(LEFT, TOP, "start", spec.up))
    if spec.level is not None:
        parts.append(f'<path class="guide" d="M{LEFT} {y(spec.level)}H{WIDTH - RIGHT}"/>')
    return "".join(parts)


def _text(x: float, y: float, anchor: str, words: str) -> str:
    words = escape(words.replace("-", MINUS) if words[:1] == "-" else words)
    return f'<text class="tick" x="{x}" y="{y}" text-anchor="{anchor}">{words}</text>'


def _cloud(cloud: Cloud, points: Sequence[Point], x: Axis, y: Axis) -> str:
    places = [(x(p.x.value or 0.0), y(p.y.value or 0.0)) for p in points]
    line = "M" + "L".join(f"{a} {b}" for a, b in places)
    path = f'<path class="line thin" d="{line}"/>' if cloud.joined and len(points) > 1 else ""
    dots = "".join(_dot(p, place, x, y) for p, place in zip(points, places, strict=True))
    return f'<g class="c{cloud.slot % 8}">{path}{dots}</g>'


def _dot(point: Point, place: tuple[float, float], x: Axis, y: Axis) -> str:
    a, b = place
    bars = ""
    if point.x.low is not None and point.x.high is not None:
        bars += f'<path d="M{x(point.x.low)} {b}H{x(point.x.high)}"/>'
    if point.y.low is not None and point.y.high is not None:
        bars += f'<path d="M{a} {y(point.y.low)}V{y(point.y.high)}"/>'
    mark = f'<text class="tick" x="{a + 6}" y="{b - 5}">{escape(point.mark)}</text>' if point.mark else ""
    words = f"{point.name}: {told(point.x)}; {told(point.y)}"
    return f'<g class="dot"><title>{escape(words)}</title>{bars}<circle cx="{a}" cy="{b}" r="3"/>{mark}</g>'


def _legend(clouds: Sequence[Cloud]) -> str:
    if len(clouds) < 2:
        return ""
    keys = "".join(f'<span class="c{c.slot % 8}"><i class="ring"></i>{escape(c.label)}</span>' for c in clouds)
    return f'<p class="legend">{keys}</p>'


def _aloud(spec: Scatter, points: Sequence[Point]) -> str:
    some = "; ".join(f"{p.name}: {told(p.x)}, {told(p.y)}" for p in points[:20])
    more = f"; and {len(points) - 20} more" if len(points) > 20 else ""
    return f"{spec.title}. Across: {spec.across}; up: {spec.up}. {some}{more}."
