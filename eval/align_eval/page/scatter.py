"""Points with intervals in both directions, in the look of the run report's charts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from align.report.parts.axes import BOTTOM, LEFT, RIGHT, TOP, Axis, level, up_ticks
from align.report.parts.figures import WIDTH, Dot, Drawn, Figure, Key, Path, Tick
from align.report.text import MINUS, short
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


def scatter(spec: Scatter) -> list[Figure]:
    """Nothing where no point has both numbers."""
    drawn = [(c, [p for p in c.points if p.x.value is not None and p.y.value is not None]) for c in spec.clouds]
    points = [p for _, some in drawn for p in some]
    if not points:
        return []
    x = Axis(*_ends([p.x for p in points], None), LEFT, WIDTH - RIGHT)
    y = Axis(*_ends([p.y for p in points], spec.level), HEIGHT - BOTTOM - 12, TOP + 12)
    found = Figure(
        title=spec.title,
        aloud=_aloud(spec, points),
        height=HEIGHT,
        rules=[level(y, tick) for tick in y.ticks(4)] + ([] if spec.level is None else [level(y, spec.level, "guide")]),
        ticks=up_ticks(y, share=points[0].y.unit == SHARE) + _ticks(x, spec),
        drawn=[_cloud(c, some, x, y) for c, some in drawn if some],
        legend=[Key(label=c.label, slot=c.slot % 8, look="ring") for c, some in drawn if some],
    )
    return [found if len(found.legend) > 1 else replace(found, legend=[])]


def _ends(found: Sequence[Estimate], level: float | None) -> tuple[float, float]:
    values = [v for f in found for v in (f.value, f.low, f.high) if v is not None]
    low, high = min(values), max(values)
    if level is not None:
        low, high = min(low, level), max(high, level)
    pad = (high - low) * ROOM or abs(high) * 0.1 or 1.0
    return (0.0 if 0 <= low < 0.2 * high else low - pad), high + pad


def _ticks(x: Axis, spec: Scatter) -> list[Tick]:
    """Below, and the names of both axes."""
    below = HEIGHT - BOTTOM - 12 + 15
    words = [short(tick).replace("-", MINUS) if tick else "0" for tick in x.ticks(5)]
    found = [Tick(x(tick), below, "middle", said) for tick, said in zip(x.ticks(5), words, strict=True)]
    return [*found, Tick(WIDTH - RIGHT, HEIGHT - 4, "end", spec.across), Tick(LEFT, TOP, "start", spec.up)]


def _cloud(cloud: Cloud, points: Sequence[Point], x: Axis, y: Axis) -> Drawn:
    places = [(x(p.x.value or 0.0), y(p.y.value or 0.0)) for p in points]
    line = "M" + "L".join(f"{a} {b}" for a, b in places)
    path = [Path("line thin", line)] if cloud.joined and len(points) > 1 else []
    dots = [_dot(p, place, x, y) for p, place in zip(points, places, strict=True)]
    return Drawn(label="", slot=cloud.slot % 8, paths=path, dots=dots)


def _dot(point: Point, place: tuple[float, float], x: Axis, y: Axis) -> Dot:
    a, b = place
    bars = ""
    if point.x.low is not None and point.x.high is not None:
        bars += f"M{x(point.x.low)} {b}H{x(point.x.high)}"
    if point.y.low is not None and point.y.high is not None:
        bars += f"M{a} {y(point.y.low)}V{y(point.y.high)}"
    return Dot(x=a, y=b, words=f"{point.name}: {told(point.x)}; {told(point.y)}", whiskers=bars, mark=point.mark)


def _aloud(spec: Scatter, points: Sequence[Point]) -> str:
    some = "; ".join(f"{p.name}: {told(p.x)}, {told(p.y)}" for p in points[:20])
    more = f"; and {len(points) - 20} more" if len(points) > 20 else ""
    return f"{spec.title}. Across: {spec.across}; up: {spec.up}. {some}{more}."
