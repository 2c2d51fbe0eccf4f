"""What a method remembers from one experience to the next: plain numbers, and lists of them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from align.errors import RunError
from align.methods.base import Method

Remembered = dict[str, float | list[float]]  # field of a method -> what it is after the experiences so far


def recalling(method: Any, remembered: Mapping[str, Any]) -> Any:
    """The method with what it remembers; lists become the tuples that its fields are."""
    values = {name: tuple(v) if isinstance(v, list) else v for name, v in remembered.items()}
    return dataclasses.replace(method, **values) if values else method


def remembered_of(method: Method[Any], batch: Any) -> Remembered:
    """What the method makes of an experience for the next one, as a checkpoint keeps it. RunError where it is neither
    numbers nor lists of them, or is of no field."""
    known, found = {f.name for f in fields(method)}, Remembered()
    for name, value in method.controllers(batch).items():
        numbers: Any = list(value) if isinstance(value, Sequence) else value
        if name not in known:
            raise RunError(f"{method.name}.controllers: {name} is no field of {type(method).__name__}")
        every = numbers if isinstance(numbers, list) else [numbers]
        if not all(isinstance(n, int | float) and math.isfinite(n) for n in every):
            raise RunError(f"{method.name}.controllers: {name} is {value!r}; expected a number, or a list of them")
        found[name] = numbers
    return found


def told_of(method: Method[Any], remembered: Remembered) -> dict[str, float]:
    """The remembered numbers that are to be told; those of a list by name and place."""
    method = recalling(method, remembered)
    told = {f.name: getattr(method, f.name) for f in fields(method) if f.metadata.get("told")}
    lists = {f"{name}/{i}": n for name, v in told.items() if isinstance(v, tuple) for i, n in enumerate(v)}
    return {name: v for name, v in told.items() if not isinstance(v, tuple)} | lists
