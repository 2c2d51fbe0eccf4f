"""Records as JSON objects and back: each field held to its annotation, so that a wrong row is found where it stands."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from functools import cache
from typing import Any, TypeVar

from align.errors import UserError, did_you_mean

Record = TypeVar("Record")


def to_row(record: Any) -> dict[str, Any]:
    """Its fields, without those that stand at their default."""
    found: dict[str, Any] = {}
    for field in fields(record):
        value = getattr(record, field.name)
        made = field.default_factory() if field.default_factory is not MISSING else field.default
        if value != made:
            found[field.name] = list(value) if isinstance(value, tuple) else value
    return found


def from_row(kind: type[Record], row: Mapping[str, Any], place: str) -> Record:
    """The record of an object. UserError with the place, the key, what was found and what is expected."""
    parts = _parts(kind)
    for key in row:
        if key not in parts:
            raise UserError(
                f"{place}: no such key: {key}; a row has {', '.join(parts)}, and whatever else goes into columns."
                f"{did_you_mean(key, parts)}"
            )
    if missing := [key for key, (needed, *_) in parts.items() if needed and key not in row]:
        raise UserError(f"{place}: misses {', '.join(missing)}")
    given: dict[str, Any] = {}
    for key, value in row.items():
        _, fits, expected = parts[key]
        if not fits(value):
            raise UserError(f"{place}: {key}: found {value!r:.80}; expected {expected}")
        given[key] = tuple(value) if expected == NAMES else value
    return kind(**given)


NAMES = "one or two texts in a list"


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _prompt(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(m, dict) for m in value))


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _names(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) in (1, 2) and all(isinstance(v, str) for v in value)


Check = tuple[Callable[[Any], bool], str]
CHECKS: dict[str, Check] = {
    "str": (_text, "a text"),
    "Text": (_prompt, "a text, or a list of messages"),
    "int": (_whole, "a whole number"),
    "int | None": (lambda v: v is None or _whole(v), "a whole number or null"),
    "float | None": (lambda v: v is None or _number(v), "a number or null"),
    "bool": (lambda v: isinstance(v, bool), "true or false"),
    "tuple[str, ...]": (_names, NAMES),
    "Order": (lambda v: v in ("", "ab", "ba"), "ab, ba or nothing"),
    "dict[str, Any]": (lambda v: isinstance(v, dict), "an object"),
    "Any": (lambda v: True, "anything"),
}


@cache
def _parts(kind: type[Any]) -> dict[str, tuple[bool, Callable[[Any], bool], str]]:
    """For each field: whether a row must have it, whether a value fits, what is expected."""
    return {f.name: (f.default is f.default_factory is MISSING, *CHECKS[str(f.type)]) for f in fields(kind)}
