"""In which range a number makes sense, said once: in the annotation of its field.

    beta: Positive = 0.1
    share: Annotated[float, Range(0, 0.5, below=True)] = 0.0
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints


@dataclass(frozen=True)
class Range:
    """Finite numbers from `least` to `most`, both included unless `above` or `below` says otherwise."""

    least: float
    most: float = math.inf
    above: bool = False
    below: bool = False

    def __contains__(self, number: float) -> bool:
        high = number > self.least if self.above else number >= self.least
        low = number < self.most if self.below else number <= self.most
        return high and low and math.isfinite(number)

    def __str__(self) -> str:
        """As in: it must be 1 or more."""
        first = f"more than {self.least:g}" if self.above else f"{self.least:g} or more"
        if math.isinf(self.most):
            return first
        if not (self.above or self.below):
            return f"{self.least:g} to {self.most:g}"
        return f"{first} and {'less than' if self.below else 'at most'} {self.most:g}"


Positive = Annotated[float, Range(0, above=True)]
NotNegative = Annotated[float, Range(0)]
Share = Annotated[float, Range(0, 1)]
ShareBelowOne = Annotated[float, Range(0, 1, below=True)]
ShareAboveZero = Annotated[float, Range(0, 1, above=True)]
BelowHalf = Annotated[float, Range(0, 0.5, below=True)]
AboveOne = Annotated[float, Range(1, above=True)]
OneOrMore = Annotated[float, Range(1)]
AtLeastOne = Annotated[int, Range(1)]
Count = Annotated[int, Range(0)]


@functools.cache
def ranges_of(cls: type[Any]) -> dict[str, Range]:
    """Field of a dataclass -> the range of its number, where one is annotated; of several in a union, the first."""
    hints = get_type_hints(cls, include_extras=True)
    found = {f.name: next(_within(hints[f.name]), None) for f in dataclasses.fields(cls)}
    return {name: range_ for name, range_ in found.items() if range_ is not None}


@functools.cache
def choices_of(cls: type[Any]) -> dict[str, tuple[Any, ...]]:
    """Field of a dataclass -> what it may be, where that is listed."""
    hints = get_type_hints(cls)
    return {f.name: get_args(hints[f.name]) for f in dataclasses.fields(cls) if get_origin(hints[f.name]) is Literal}


def misfits(made: Any) -> Iterator[tuple[str, str]]:
    """Fields of a dataclass whose values, or one of several, are out of their range or none of the choices; and what is
    expected there. A list of none says nothing, and does not fit."""
    for name, allowed in ranges_of(type(made)).items():
        found: Any = getattr(made, name)
        values = list(found) if isinstance(found, tuple | list) else [] if found is None else [found]
        if not (found is None or values) or any(v not in allowed for v in values):
            yield name, str(allowed) if all(map(math.isfinite, values)) else f"finite and {allowed}"
    for name, choices in choices_of(type(made)).items():
        if getattr(made, name) not in choices:
            yield name, f"one of {', '.join(map(str, choices))}"


def _within(hint: Any) -> Iterator[Range]:
    if get_origin(hint) is Annotated:
        yield from (part for part in get_args(hint)[1:] if isinstance(part, Range))
        return
    for part in get_args(hint):
        yield from _within(part)
