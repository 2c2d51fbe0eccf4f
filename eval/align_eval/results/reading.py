"""results.json is checked when it is written and when it is read: types, known keys, finite numbers, its version.

A number without a value says why; an interval has both ends or none; models in a section are among `models`.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NoReturn

from pydantic import TypeAdapter, ValidationError

from align.errors import Mistakes, UserError
from align.system.files import replace_file
from align_eval.results.document import SCHEMA, Results, Sections
from align_eval.results.families import FAMILIES, adjusted
from align_eval.results.tables import write_tables
from align_eval.results.turning import as_in

NAME = "results.json"
SHOWN = 12  # mistakes that are told
KEYS = {  # what makes a row of a section that very row; two of them cannot stand side by side
    "leaderboard": ("model",),
    "pairs": ("a", "b", "judge", "category"),
    "scores": ("model", "task", "metric", "category"),
    "differences": ("a", "b", "task", "metric", "category"),
    "judges": ("judge",),
    "agreement": ("a", "b", "kind"),
    "frontier": ("run", "step"),
    "styles": ("model", "judge"),
    "effects": ("judge", "feature"),
}
NAMED = ("model", "a", "b")  # keys of a row that hold a model's name
OF_JUDGES = ("agreement",)  # sections whose a and b are judges


def write(folder: Path, results: Results) -> Path:
    """Writes `folder`/results.json, whole or not at all, and its tables. AssertionError: not as the schema says."""
    path = folder / NAME
    tree = as_tree(results)
    try:
        parse(tree, path)
    except UserError as error:  # not the user's mistake: whoever made them must mend it
        raise AssertionError(str(error)) from None
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(path, json.dumps(tree, indent=1, allow_nan=False, ensure_ascii=False) + "\n")
    write_tables(folder, results)
    return path


def read(folder: Path) -> Results:
    """Of an evaluation folder, or the file itself. UserError: none there, another version, or not as it must be."""
    path = folder / NAME if folder.is_dir() else folder
    if not path.exists():
        raise UserError(f"{path}: is not there; `align-eval compare` and `leaderboard` write it")
    try:
        tree = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: is no valid JSON: {error}") from None
    return parse(tree, path)


def ready(folder: Path) -> None:
    """Before work that `add`s to it. UserError where what lies there cannot be added to; it is left as it is."""
    if not os.path.lexists(folder / NAME):
        return
    try:
        read(folder)
    except UserError as error:
        raise UserError(f"{error}\nResults would be added to it: move it away, or take another folder") from None


def add(folder: Path, results: Results) -> Path:
    """Writes them beside what `folder`/results.json holds: rows of the same key are replaced, the others stay.

    They stay only where they were made from the same inputs (`manifest.inputs`); otherwise a warning names what went.
    """
    if not (folder / NAME).exists():
        return write(folder, results)
    old = read(folder)
    if old.manifest.get("inputs") == results.manifest.get("inputs"):
        return write(folder, _merged(old, results))
    old = as_in(old, results)
    lost = {name: _keyed(old, name).keys() - _keyed(results, name).keys() for name in KEYS}
    gone = [f"{len(rows)} of {name}" for name, rows in lost.items() if rows]
    note = f"rows left out, because they were made from other verdicts, answers or scores: {', '.join(gone)}"
    return write(folder, replace(results, warnings=[*results.warnings, note]) if gone else results)


def as_tree(results: Results) -> dict[str, Any]:
    """As it stands in the file: the version first, no empty sections; half a character pair becomes ?."""
    tree = json.loads(json.dumps(asdict(results), ensure_ascii=False).encode(errors="replace"))
    tree["sections"] = {name: rows for name, rows in tree["sections"].items() if rows}
    return {"schema": tree.pop("schema"), **tree}


def parse(tree: Any, path: Path) -> Results:
    """UserError with every mistake, each with its place."""
    version = tree.get("schema") if isinstance(tree, dict) else None
    if version != SCHEMA:
        raise UserError(f"{path}: schema: is {version!r}, and this version of align-eval reads {SCHEMA}")
    try:
        found = TypeAdapter(Results).validate_json(json.dumps(tree), strict=True)
    except ValidationError as error:
        told = [f"{path}: {_place(e['loc'])}: {e['msg']}, found {_short(e['input'])}" for e in error.errors()]
        raise Mistakes(told[:SHOWN]) from None
    mistakes = [*_unknown(tree, asdict(found), ""), *_odd(tree, ""), *_odd_rows(found)]
    if mistakes:
        raise Mistakes(f"{path}: {mistake}" for mistake in mistakes[:SHOWN])
    return found


def _merged(old: Results, new: Results) -> Results:
    sections = {}
    old = as_in(old, new)
    for name in KEYS:
        whole = name == "leaderboard" and new.sections.leaderboard  # ranks are of one table
        before = {} if whole else _keyed(old, name)
        rows = list((before | _keyed(new, name)).values())
        sections[name] = adjusted(rows) if name in FAMILIES else rows
    models = {m["name"]: m for m in [*old.models, *new.models]}
    return replace(
        new,
        manifest=old.manifest | new.manifest,
        models=list(models.values()),
        warnings=list(dict.fromkeys([*old.warnings, *new.warnings])),
        failures=list(dict.fromkeys([*old.failures, *new.failures])),
        sections=Sections(**sections),
    )


def _keyed(found: Results, name: str) -> dict[tuple[Any, ...], Any]:
    """The rows of a section by what makes each of them that very row."""
    return {tuple(getattr(row, k) for k in KEYS[name]): row for row in getattr(found.sections, name)}


# ---- what types do not say ------------------------------------------------------------------------------------------


def _unknown(raw: Any, known: Any, place: str) -> Iterator[str]:
    """Keys of the file that no field has read: a misspelt one would otherwise be lost in silence."""
    if isinstance(raw, dict) and isinstance(known, dict):
        for key, value in raw.items():
            if key in known:
                yield from _unknown(value, known[key], f"{place}.{key}" if place else key)
            else:
                yield f"{place or 'the document'}: no such key: {key}; there are {', '.join(known)}"
    elif isinstance(raw, list) and isinstance(known, list):
        for i, (one, other) in enumerate(zip(raw, known, strict=True)):
            yield from _unknown(one, other, f"{place}.{i}")


def _odd(tree: Any, place: str) -> Iterator[str]:
    """Numbers that no reader of JSON can be given, and estimates that contradict themselves."""
    if isinstance(tree, float) and not math.isfinite(tree):
        yield f"{place}: is {tree}; a number that does not exist is null, and `why` says why"
    elif isinstance(tree, dict):
        if {"value", "low", "high", "level"} <= tree.keys():
            yield from _odd_estimate(tree, place)
        for key, value in tree.items():
            yield from _odd(value, f"{place}.{key}" if place else str(key))
    elif isinstance(tree, list):
        for i, value in enumerate(tree):
            yield from _odd(value, f"{place}.{i}")


def _odd_estimate(tree: dict[str, Any], place: str) -> Iterator[str]:
    value, low, high = tree["value"], tree["low"], tree["high"]
    if value is None and not tree.get("why"):
        yield f"{place}: has no value and no `why`"
    if (low is None) != (high is None):
        yield f"{place}: has one end of an interval"
    if low is not None and high is not None:
        if low > high:
            yield f"{place}: its interval ends before it begins: {low} to {high}"
        if not tree.get("method"):
            yield f"{place}: has an interval and no method"
    if not 0 < tree["level"] < 1:
        yield f"{place}: level is {tree['level']}, expected a share such as 0.95"


def _odd_rows(found: Results) -> Iterator[str]:
    unnamed = [i for i, model in enumerate(found.models) if not isinstance(model.get("name"), str)]
    yield from (f"models.{i}: has no name" for i in unnamed)
    names = {model.get("name") for model in found.models}
    for name, keys in KEYS.items():
        rows, seen = getattr(found.sections, name), set()
        for i, row in enumerate(rows):
            key = tuple(getattr(row, k) for k in keys)
            if key in seen:
                yield f"sections.{name}.{i}: a second row of {', '.join(map(str, key))}"
            seen.add(key)
            told = [getattr(row, k) for k in NAMED if hasattr(row, k)] if name not in OF_JUDGES else []
            yield from (f"sections.{name}.{i}: {model} is not among models" for model in told if model not in names)


def _place(parts: tuple[int | str, ...]) -> str:
    return ".".join(map(str, parts)) or "the document"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 80 else f"{text[:80]} ..."


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number of JSON")
