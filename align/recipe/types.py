"""Plain values to a section's frozen dataclass: unknown keys, wrong types, numbers out of range, all of them.

The dataclasses stay beside the code that reads them; pydantic checks the values against their annotations, strictly
(text is no number, a number no truth value), and the messages are written here.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

from align.errors import did_you_mean
from align.recipe.text import Written
from align.system.ranges import Range, ranges_of
from align.translate.hints import translate_key

T = TypeVar("T")

LARGEST = 2**63  # what torch and numpy count with
SECTIONS = (
    "data",
    "model",
    "optim",
    "training",
    "logging",
    "rollout",
)  # whose numbers are never negative; methods and rewards know their own
ENDLESS = re.compile(r"method\.|reward\.(functions\.settings|shape\.clip)\.")  # keys where infinity may mean something


def build(written: Written, key: str, cls: type[T], values: Any, hints: dict[str, str] | None = None) -> T | None:
    """The section `key` as `cls`, every mistake in it noted. `hints` adds a sentence to an unknown key.

    Keys with a wrong value stand at their defaults in what is returned, so that the checks after this one go on and
    report the rest; they are remembered in `written.broken`. None where nothing can be built at all.
    """
    if not isinstance(values, dict):
        written.wrong(key, f"found {show(values)}; expected a section with {', '.join(names(cls))}")
        return None
    known = _without_unknown(written, key, cls, values, hints or {})
    try:
        made = _validated(cls, known)
    except ValidationError as error:
        wrong = _note(written, key, cls, known, error)
        written.broken |= {f"{key}.{name}" for name in wrong}
        try:
            made = _validated(cls, {k: v for k, v in known.items() if k not in wrong})
        except ValidationError:
            return None
    _ranges(written, key, made)
    return made


def _validated(cls: type[T], values: dict[str, Any]) -> T:
    return TypeAdapter(cls).validate_json(json.dumps(values, default=str), strict=True)


def names(cls: type[Any]) -> list[str]:
    return [f.name for f in dataclasses.fields(cls) if f.init and "remembered" not in f.metadata]


# ---- unknown keys ---------------------------------------------------------------------------------------------------


def _without_unknown(
    written: Written, key: str, cls: type[Any], values: dict[str, Any], hints: dict[str, str]
) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    annotations = get_type_hints(cls)
    for name, value in values.items():
        if name not in names(cls):
            hint = hints.get(name) or translate_key(name) or did_you_mean(name, names(cls))
            owner = hints.get("") or next((p for p in reversed(key.split(".")) if not p.isdigit()), key)
            brief = len(names(cls)) > 8 and hint
            there = "" if brief else f"; {owner} has {', '.join(names(cls)) or 'none'}"
            written.wrong(f"{key}.{name}", f"no such key{there}.{hint}")
            continue
        alone = isinstance(value, str) and annotations[name] == list[str]
        kept[name] = _inner(written, f"{key}.{name}", annotations[name], _as_list(value) if alone else value)
    return kept


def _as_list(text: str) -> list[str]:
    """A single text where a list of them is asked for; `none` is the empty list, as other projects write it."""
    return [] if text in ("", "none") else [text]


def _inner(written: Written, key: str, hint: Any, value: Any) -> Any:
    """The same for the dataclasses inside `hint`: alone, in a union, or in a list."""
    inner = next((c for c in _dataclasses(hint)), None)
    if inner is None:
        return value
    if isinstance(value, dict):
        return _without_unknown(written, key, inner, value, {})
    if isinstance(value, list):
        return [
            _without_unknown(written, f"{key}.{i}", inner, v, {}) if isinstance(v, dict) else v
            for i, v in enumerate(value)
        ]
    return value


def _dataclasses(hint: Any) -> Iterable[type[Any]]:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        yield hint
    for argument in get_args(hint):
        yield from _dataclasses(argument)


# ---- wrong types ----------------------------------------------------------------------------------------------------


def _note(written: Written, key: str, cls: type[Any], values: dict[str, Any], error: ValidationError) -> set[str]:
    """One message per key; of a union's complaints the one that got furthest into the value. Returns the keys."""
    places: dict[str, tuple[int, str]] = {}
    for detail in error.errors(include_url=False):
        path, found = _place(values, detail["loc"])
        top = path[0] if path else ""
        text = _sentence(cls, path, found, detail)
        if top not in places or len(path) > places[top][0]:
            places[top] = (len(path), f"{'.'.join([key, *path])}\n{text}")
    for _, message in places.values():
        place, text = message.split("\n", 1)
        written.wrong(place, text)
    return set(places)


def _place(values: Any, loc: Sequence[str | int]) -> tuple[list[str], Any]:
    """The part of a location that is in the values (pydantic adds the names of union members), and what is there."""
    path: list[str] = []
    found: Any = values
    for part in loc:
        there: Any = found if isinstance(found, dict) else dict(enumerate(found)) if isinstance(found, list) else {}
        if part in there:
            found = there[part]
            path.append(str(part))
    return path, found


def _sentence(cls: type[Any], path: list[str], found: Any, detail: Any) -> str:
    kind = detail["type"]
    if kind == "value_error":
        return f"{detail['ctx']['error']}"
    if kind == "missing":
        return f"{detail['loc'][-1]} is missing; it has no default"
    expected = _expected(cls, path)
    hint = did_you_mean(found, _choices(_annotation(cls, path))) if isinstance(found, str) else ""
    return f"found {show(found)}; expected {expected}.{hint}"


def _annotation(cls: type[Any], path: list[str]) -> Any:
    hint: Any = cls
    for part in path:
        inner = next(iter(_dataclasses(hint)), None)
        if part.isdigit():
            lists = [a for a in (hint, *get_args(hint)) if get_origin(a) is list]
            hint = get_args(lists[0])[0] if lists else Any
        elif inner is not None and part in names(inner):
            hint = get_type_hints(inner)[part]
        else:
            arguments = get_args(hint)
            hint = arguments[-1] if arguments else Any
    return hint


def is_text(owners: Mapping[str, type[Any]], key: str) -> bool:
    """Whether the value of a dotted key is text and nothing else."""
    section, *path = key.split(".")
    return bool(path) and section in owners and _annotation(owners[section], path) is str


def _expected(cls: type[Any], path: list[str]) -> str:
    return describe(_annotation(cls, path))


def _choices(hint: Any) -> list[str]:
    if get_origin(hint) is Literal:
        return [str(a) for a in get_args(hint)]
    return [c for a in get_args(hint) for c in _choices(a)]


_WORDS: dict[Any, str] = {
    int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null", Any: "anything",
}  # fmt: skip


def describe(hint: Any) -> str:
    """An annotation in words."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint in _WORDS:
        return _WORDS[hint]
    if origin is Literal:
        return "one of " + ", ".join(str(a) for a in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(describe(a) for a in arguments)
    if origin is list:
        return f"a list of {describe(arguments[0]).removeprefix('a ')}"
    if origin is tuple:
        if arguments[-1] is ...:
            return f"a list of {describe(arguments[0]).removeprefix('a ')}"
        return "a list of " + ", ".join(map(describe, arguments))
    if origin is dict:
        return f"a mapping to {describe(arguments[1])}"
    if dataclasses.is_dataclass(hint):
        return f"a section with {', '.join(names(hint))}"  # type: ignore[arg-type]
    return getattr(hint, "__name__", str(hint))


def show(value: Any) -> str:
    """A value as a message shows it, with its kind where it could be mistaken."""
    if value is None:
        return "nothing"
    if isinstance(value, str):
        return f"the text {value!r}"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return f"a section with {', '.join(map(str, value)) or 'no key'}" if isinstance(value, dict) else str(value)


# ---- numbers out of range -------------------------------------------------------------------------------------------


def _ranges(written: Written, place: str, values: Any, allowed: Range | None = None) -> None:
    """Notes what lies outside of the range in its field's annotation, and what no number of a recipe may be."""
    if dataclasses.is_dataclass(values):
        known = ranges_of(type(values))  # type: ignore[arg-type]
        for name in names(type(values)):  # type: ignore[arg-type]
            _ranges(written, f"{place}.{name}", getattr(values, name), known.get(name))
    if isinstance(values, dict | list):
        for name, value in values.items() if isinstance(values, dict) else enumerate(values):
            _ranges(written, f"{place}.{name}", value, allowed)
    if isinstance(values, bool) or not isinstance(values, int | float):
        return
    text = ""
    key = re.sub(r"\.\d+\b", "", place)  # what stands in a list is called as the list is
    inside = key.split(".")[0] in SECTIONS
    if math.isnan(values):
        text = "found NaN; expected a number"
    elif isinstance(values, float) and math.isinf(values) and not ENDLESS.match(key):
        text = f"found {values}; expected a finite number"
    elif isinstance(values, int) and abs(values) >= LARGEST:
        text = f"found a number of {len(str(values))} digits; expected less than 2^63"
    elif allowed is not None and values not in allowed:
        text = f"found {values}; expected {allowed}"
    elif inside and values < 0 and "args" not in key and "config" not in key:
        text = f"found {values}; expected 0 or more"
    if text:
        written.wrong(place, text)
        written.broken.add(place)
