"""The fields of a dataclass as a table: key, what it may be, default, meaning."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, get_args, get_origin, get_type_hints

from align.methods.base import Method
from align.recipe.types import describe
from align.system.ranges import Range, ranges_of
from docs.generate.comments import meanings

HEAD = "| key | what it may be | default | meaning |\n| --- | --- | --- | --- |\n"


def table(cls: type[Any], prefix: str = "") -> str:
    """A row for each field: its key (a place to link to), kind and range, default, meaning."""
    hints, ranges, told = get_type_hints(cls), ranges_of(cls), all_meanings(cls)
    rows: list[str] = []
    for field in dataclasses.fields(cls):
        if not field.init or "remembered" in field.metadata:
            continue
        key = f"{prefix}.{field.name}" if prefix else field.name
        name = f'<a id="{key}"></a>`{field.name}`' if prefix else f"`{field.name}`"
        kind = _kind(hints[field.name], ranges.get(field.name))
        rows.append(f"| {name} | {kind} | {default_of(field)} | {cell(told.get(field.name, ''))} |\n")
    return of_rows(rows)


def of_rows(rows: list[str]) -> str:
    """The rows under their head; on a phone each of them becomes a few lines."""
    return f'<div class="keys" markdown>\n\n{HEAD}{"".join(rows)}\n</div>'


def cell(text: str) -> str:
    """Plain words in a cell of a table: what Markdown would take for its own is shown as it is."""
    parts = text.split("`")
    for i in range(0, len(parts), 2):
        for sign in "\\*_<>$[]{}":
            parts[i] = parts[i].replace(sign, f"\\{sign}" if sign not in "<>" else {"<": "&lt;", ">": "&gt;"}[sign])
    return "`".join(parts).replace("|", "\\|")


def all_meanings(cls: type[Any]) -> dict[str, str]:
    """Of the class and of those that it is made from."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if dataclasses.is_dataclass(base) and base is not Method:
            found |= {name: text for name, text in meanings(base).items() if text}
    return found


def about(cls: type[Any]) -> str:
    return cell(" ".join((cls.__doc__ or "").split()))


def _kind(hint: Any, allowed: Range | None) -> str:
    """An annotation in words; a section inside of another has a table of its own."""
    if sections_in(hint):
        parts = [part for part in (get_args(hint) or (hint,)) if part is not type(None)]
        words = " or ".join(dict.fromkeys(map(_with_sections, parts)))
        return cell(f"{'a list of names or sections' if get_origin(hint) is list else words}, as below")
    words = describe(hint)
    return cell(f"{words}, {allowed}" if allowed else words)


def _with_sections(hint: Any) -> str:
    if sections_in(hint):
        return "a list of sections" if get_origin(hint) is list else "a section"
    return describe(hint)


def default_of(field: dataclasses.Field[Any]) -> str:
    if field.default_factory is not dataclasses.MISSING:
        value: Any = field.default_factory()
    elif field.default is dataclasses.MISSING:
        return "must be given"
    else:
        value = field.default
    if value == "":
        return "empty"
    return f"`{value if isinstance(value, str) else json.dumps(value)}`".replace("e-0", "e-")


def sections_in(hint: Any) -> list[type[Any]]:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return [hint]
    return [cls for argument in get_args(hint) for cls in sections_in(argument)]
