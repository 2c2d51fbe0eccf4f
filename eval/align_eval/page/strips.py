"""Forest plots: a table with a row for each estimate, its interval drawn in one column and told in the next.

The drawings stretch with the page and the words stay words, so a phone, a printer and a reader aloud have the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from align.report.parts.axes import Axis
from align.report.text import MINUS, short
from align_eval.results.wording import SHARE, how, rests_on, told
from align_eval.statistics.estimate import Estimate

WIDE, HIGH = 1000, 22  # of a strip's own coordinates
MIDDLE = HIGH // 2
ROOM = 0.05  # beside the outermost ends, of their distance
EDGE = 0.04  # of the axis; words there stay inside
LEAST = 0.02  # of an axis of shares


@dataclass(frozen=True, kw_only=True)
class Strip:
    """One row: an estimate, and how small a distance from the middle it could have shown."""

    name: str
    found: Estimate | None
    note: str = ""  # beside the name
    detectable: float | None = None
    slot: int = 0  # which colour


@dataclass(frozen=True, kw_only=True)
class Forest:
    """Rows on one axis. `middle`: where there is no difference; `bars`: drawn from there, or from 0."""

    title: str
    strips: Sequence[Strip]
    middle: float | None = None
    bars: bool = False
    signed: bool = False
    whole: bool = False  # the axis of shares goes from 0 to 1


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A path, or a rectangle from x of some width; `look` is a class of the style."""

    look: str
    path: str = ""
    x: float = 0.0
    width: float = 0.0
    inset: int = 0  # of a rectangle, from above and below


@dataclass(frozen=True, kw_only=True)
class Line:
    """A row as the template sets it."""

    name: str
    note: str
    words: str
    rests: str  # on how much the estimate rests
    hint: str
    look: str  # missing; bare: why there is no interval is a sentence, which needs several lines
    slot: int
    shapes: Sequence[Shape] | None  # None: there is no axis


@dataclass(frozen=True, kw_only=True)
class Mark:
    """Below an axis, at a share of its width."""

    at: str
    look: str
    words: str


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A forest as the template sets it."""

    title: str
    lines: Sequence[Line]
    marks: Sequence[Mark]  # none where nothing can be drawn


def forest(spec: Forest) -> Drawing:
    """The table, with an axis below where anything can be drawn."""
    axis = _axis(spec)
    share = any(s.found and s.found.unit == SHARE for s in spec.strips)
    marks = list(_marks(axis, share, spec.signed)) if axis else []
    return Drawing(title=spec.title, lines=[_line(strip, axis, spec) for strip in spec.strips], marks=marks)


def _line(strip: Strip, axis: Axis | None, spec: Forest) -> Line:
    missing = strip.found is None or strip.found.value is None
    bare = strip.found is not None and strip.found.low is None
    return Line(
        name=strip.name,
        note=strip.note,
        words=told(strip.found, signed=spec.signed),
        rests=rests_on(strip.found),
        hint=_hint(strip),
        look="missing" if missing else "bare" if bare else "",
        slot=strip.slot % 8,
        shapes=list(_shapes(strip, axis, spec)) if axis else None,
    )


def _hint(strip: Strip) -> str:
    parts = [strip.name, how(strip.found) if strip.found else ""]
    if strip.detectable is not None:
        share = strip.found is not None and strip.found.unit == SHARE
        parts.append(f"smallest detectable distance {_words(strip.detectable, share, False)}")
    return " · ".join(p for p in parts if p)


def _shapes(strip: Strip, axis: Axis, spec: Forest) -> Iterator[Shape]:
    origin = spec.middle if spec.middle is not None else 0.0
    if spec.middle is not None:
        if strip.detectable is not None:
            left, right = (_inside(axis, origin + sign * strip.detectable) for sign in (-1, 1))
            yield Shape(look="blind", x=left, width=round(right - left, 1))
        yield Shape(look="middle", path=f"M{axis(origin)} 0V{HIGH}")
    found = strip.found
    if found and found.value is not None:
        at = axis(found.value)
        if spec.bars:
            base = _inside(axis, origin)
            yield Shape(look="bar", x=min(base, at), width=round(abs(at - base), 1), inset=4)
        if found.low is not None and found.high is not None:
            yield Shape(look="whisker", path=f"M{axis(found.low)} {MIDDLE}H{axis(found.high)}")
        yield Shape(look="point", path=f"M{at} {MIDDLE}h.01")


def _axis(spec: Forest) -> Axis | None:
    """Over all intervals; of shares never beyond 0 and 1. None where there is nothing to draw."""
    found = [s.found for s in spec.strips if s.found and s.found.value is not None]
    ends = [x for f in found for x in (f.value, f.low, f.high) if x is not None]
    if not ends:
        return None
    if spec.middle is not None:
        ends.append(spec.middle)
    if spec.bars and spec.middle is None:
        ends.append(0.0)
    share = all(f.unit == SHARE for f in found)
    low, high = min(ends), max(ends)
    pad = max((high - low) * ROOM, LEAST if share else abs(high) * 1e-3 or 1.0)
    if share and not spec.signed:
        low, high = (0.0, 1.0) if spec.whole else (max(0.0, low - pad), min(1.0, high + pad))
    else:
        low, high = low - pad if not (spec.bars and low == 0) else low, high + pad
    return Axis(low, high, 0, WIDE)


def _inside(axis: Axis, value: float) -> float:
    return axis(min(max(value, axis.low), axis.high))


def _marks(axis: Axis, share: bool, signed: bool) -> Iterator[Mark]:
    for tick in axis.ticks(4):
        at = axis(tick) / WIDE
        look = "start" if at < EDGE else "end" if at > 1 - EDGE else ""
        yield Mark(at=f"{at:.2%}", look=look, words=_words(tick, share, signed))


def _words(value: float, share: bool, signed: bool) -> str:
    value = value * 100 if share else value
    value = 0.0 if math.isclose(value, 0, abs_tol=1e-9) else value
    sign = "+" if signed and value > 0 else ""
    unit = "" if not share else " points" if signed and value else " %" if not signed else ""
    return f"{sign}{short(value)}{unit}".replace("-", MINUS)
