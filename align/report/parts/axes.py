"""From numbers to pixels: axes, their ticks, and the grid of a chart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from align.report.parts.figures import HEIGHT, WIDTH, Path, Tick
from align.report.text import MINUS, Number, short

LEFT, RIGHT, TOP, BOTTOM = 48, 10, 10, 26
SPAN = 1e-9  # of the larger end, between two ends of an axis that floats can still divide
TINY = 1e-290  # likewise, of ends that are next to nothing


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


def apart(low: Number, high: Number) -> Number:
    """The upper end of an axis: `high`, or so much more that the axis can be divided in floating point."""
    return max(high, low + max(SPAN * abs(low), SPAN * abs(high), TINY))


def across(low: Number, high: Number) -> Axis:
    """The usual horizontal axis."""
    return Axis(low, apart(low, high if high > low else low + 1), LEFT, WIDTH - RIGHT)


def level(axis: Axis, value: Number, look: str = "rule") -> Path:
    """A horizontal line through the whole chart."""
    return Path(look, f"M{LEFT} {axis(value)}H{WIDTH - RIGHT}")


def up_ticks(axis: Axis, *, share: bool) -> list[Tick]:
    """At the left, beside the lines of the grid."""
    words = [f"{tick * 100:.4g} %" if share else short(tick) if tick else "0" for tick in axis.ticks(4)]
    places = [axis(tick) + 3.5 for tick in axis.ticks(4)]
    return [Tick(LEFT - 6, y, "end", _minus(word)) for y, word in zip(places, words, strict=True)]


def across_ticks(axis: Axis, name: str) -> list[Tick]:
    """Below, where whole numbers are counted, such as steps."""
    at = HEIGHT - 9
    whole = (t for t in axis.ticks(5) if t == int(t) and axis(t) > LEFT + 12)
    return [*(Tick(axis(t), at, "middle", _minus(f"{t:,.0f}")) for t in whole), Tick(LEFT - 6, at, "end", name)]


def _minus(words: str) -> str:
    return words.replace("-", MINUS)
