"""What is drawn in a chart, in pixels: `templates/chart.html.j2` sets it, and a script redraws it from `data`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

WIDTH, HEIGHT = 380, 214


@dataclass(frozen=True)
class Tick:
    """Words beside an axis. `anchor`: which end of them stands at x."""

    x: float
    y: float
    anchor: str
    words: str


@dataclass(frozen=True)
class Path:
    """A path of SVG, and how it looks (a class of the style)."""

    look: str
    d: str


@dataclass(frozen=True, kw_only=True)
class Dot:
    """A ring with its whiskers; `words` are told when it is pointed at."""

    x: float
    y: float
    words: str
    whiskers: str = ""  # a path
    mark: str = ""  # written beside it


@dataclass(frozen=True, kw_only=True)
class Bar:
    """Of a histogram."""

    x: float
    y: float
    width: float
    height: float
    words: str


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """All of one series, in one colour."""

    label: str
    slot: int
    paths: Sequence[Path] = ()
    dots: Sequence[Dot] = ()
    bars: Sequence[Bar] = ()


@dataclass(frozen=True, kw_only=True)
class Key:
    """A line of the legend. `look`: ring, or bar for a line."""

    label: str
    slot: int
    look: str


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A chart with its caption and legend."""

    title: str
    aloud: str  # the chart in a sentence, for those who cannot see it
    drawn: Sequence[Drawn]
    rules: Sequence[Path] = ()  # lines of the grid, and the level to compare with
    ticks: Sequence[Tick] = ()
    latest: str = ""  # at the right of the caption
    legend: Sequence[Key] = ()
    many: bool = False  # so many lines that the faint ones must be fainter
    above: bool = False  # the grid lies over what is drawn
    height: float = HEIGHT
    data: Any = None  # what the page's script draws it anew from; see charts.js
