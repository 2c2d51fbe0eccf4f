"""Forest plots: a table with a row for each estimate, its interval drawn in one column and told in the next.

The drawings stretch with the page and the words stay words, so a phone, a printer and a reader aloud have the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from align.report.svg import Axis
from align.report.text import MINUS, escape, short
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


def forest(spec: Forest) -> Markup:
    """The table, with an axis below where anything can be drawn."""
    axis = _axis(spec)
    share = any(s.found and s.found.unit == SHARE for s in spec.strips)
    rows = "".join(_row(strip, axis, spec) for strip in spec.strips)
    below = f'<tr class="axis"><th></th><td>{_ticks(axis, share, spec.signed)}</td><td></td></tr>' if axis else ""
    return Markup(
        f'<table class="forest"><caption>{escape(spec.title)}</caption>'
        f'<thead class="aloud"><tr><th scope="col">Of</th><th scope="col">Drawn</th><th scope="col">Estimate</th></tr>'
        f"</thead><tbody>{rows}{below}</tbody></table>"
    )


def _row(strip: Strip, axis: Axis | None, spec: Forest) -> str:
    note = f' <small>{escape(strip.note)}</small>' if strip.note else ""
    drawn = _drawn(strip, axis, spec) if axis else ""
    words, hint = told(strip.found, signed=spec.signed), _hint(strip)
    missing = "" if strip.found and strip.found.value is not None else ' class="missing"'
    if not missing and strip.found and strip.found.low is None:
        missing = ' class="bare"'  # why there is no interval is a sentence, which needs several lines
    return (
        f'<tr><th scope="row">{escape(strip.name)}{note}</th><td class="drawn">{drawn}</td>'
        f'<td title="{escape(hint)}"{missing}>{escape(words)} <small>{escape(rests_on(strip.found))}</small></td></tr>'
    )


def _hint(strip: Strip) -> str:
    parts = [strip.name, how(strip.found) if strip.found else ""]
    if strip.detectable is not None:
        share = strip.found is not None and strip.found.unit == SHARE
        parts.append(f"smallest detectable distance {_words(strip.detectable, share, False)}")
    return " · ".join(p for p in parts if p)


def _drawn(strip: Strip, axis: Axis, spec: Forest) -> str:
    parts: list[str] = []
    origin = spec.middle if spec.middle is not None else 0.0
    if spec.middle is not None:
        if strip.detectable is not None:
            left, right = (_inside(axis, origin + sign * strip.detectable) for sign in (-1, 1))
            parts.append(f'<rect class="blind" x="{left}" width="{round(right - left, 1)}" y="0" height="{HIGH}"/>')
        parts.append(f'<path class="middle" d="M{axis(origin)} 0V{HIGH}"/>')
    found = strip.found
    if found and found.value is not None:
        at = axis(found.value)
        if spec.bars:
            base = _inside(axis, origin)
            left, width = min(base, at), round(abs(at - base), 1)
            parts.append(f'<rect class="bar" x="{left}" width="{width}" y="4" height="{HIGH - 8}"/>')
        if found.low is not None and found.high is not None:
            parts.append(f'<path class="whisker" d="M{axis(found.low)} {MIDDLE}H{axis(found.high)}"/>')
        parts.append(f'<path class="point" d="M{at} {MIDDLE}h.01"/>')
    return (
        f'<svg class="strip c{strip.slot % 8}" viewBox="0 0 {WIDE} {HIGH}" preserveAspectRatio="none" '
        f'aria-hidden="true">{"".join(parts)}</svg>'
    )


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


def _ticks(axis: Axis, share: bool, signed: bool) -> str:
    spans = ""
    for tick in axis.ticks(4):
        at = axis(tick) / WIDE
        kind = "start" if at < EDGE else "end" if at > 1 - EDGE else ""
        spans += f'<span class="{kind}" style="left:{at:.2%}">{_words(tick, share, signed)}</span>'
    return f'<div class="ticks" aria-hidden="true">{spans}</div>'


def _words(value: float, share: bool, signed: bool) -> str:
    value = value * 100 if share else value
    value = 0.0 if math.isclose(value, 0, abs_tol=1e-9) else value
    sign = "+" if signed and value > 0 else ""
    unit = "" if not share else " points" if signed and value else " %" if not signed else ""
    return f"{sign}{short(value)}{unit}".replace("-", MINUS)
