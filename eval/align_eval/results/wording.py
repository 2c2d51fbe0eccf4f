"""An estimate in words: as many digits as its interval bears, a share in per cent, what is missing as missing."""

from __future__ import annotations

import math

from align.report.text import MINUS, short
from align_eval.statistics.estimate import Estimate

SHARE = "share"  # the unit of what lies between 0 and 1
MOST_PLACES = 6


def told(found: Estimate | None, *, signed: bool = False) -> str:
    """`63.1 % [57.0, 69.2]`; `missing: no verdicts`."""
    if found is None:
        return "missing"
    if found.value is None:
        return f"missing: {found.why}"
    scale, unit = _scale(found, signed)
    places = _places(found, scale)
    words = _number(found.value * scale, places, signed)
    if found.low is None or found.high is None:
        return f"{words}{unit}" + (f" (no interval: {found.why})" if found.why else "")
    low, high = (_number(end * scale, places, signed) for end in (found.low, found.high))
    return f"{words}{unit} [{low}, {high}]"


def value_of(found: Estimate | None, *, signed: bool = False) -> str:
    """The value alone."""
    if found is None or found.value is None:
        return "missing"
    scale, unit = _scale(found, signed)
    return _number(found.value * scale, _places(found, scale), signed) + unit


def rests_on(found: Estimate | None) -> str:
    """On how much it rests: `n 600, 300 prompts`."""
    if found is None or (found.value is None and not found.n):
        return ""
    clusters = f", {found.clusters:,} clusters" if found.clusters is not None and found.clusters != found.n else ""
    return f"n {found.n:,}{clusters}"


def how(found: Estimate) -> str:
    """What the interval is: `95 % interval: Wilson`."""
    return f"{found.level * 100:g} % interval: {found.method}" if found.method else ""


def p_value(value: float | None) -> str:
    if value is None:
        return "missing"
    return "< 0.0001" if value < 1e-4 else f"{value:.4f}" if value < 0.01 else f"{value:.3f}"


def _scale(found: Estimate, signed: bool) -> tuple[float, str]:
    """A share is told in per cent, a difference of shares in points."""
    if found.unit == SHARE:
        return 100.0, " points" if signed else " %"
    return 1.0, f" {found.unit}" if found.unit else ""


def _places(found: Estimate, scale: float) -> int:
    """So many that half the interval has two digits, one at least of per cents; -1: four digits of the value."""
    fewest = 1 if found.unit == SHARE else 0
    if found.low is not None and found.high is not None and found.high > found.low:
        half = (found.high - found.low) / 2 * scale
        return min(MOST_PLACES, max(fewest, 1 - math.floor(math.log10(half))))
    return fewest or -1


def _number(value: float, places: int, signed: bool) -> str:
    words = short(value) if places < 0 else f"{value:,.{places}f}"
    if not float(words.replace(",", "")):
        words = words.removeprefix("-")
    sign = "+" if signed and value > 0 and words[0] != "-" else ""
    return f"{sign}{words}".replace("-", MINUS)
