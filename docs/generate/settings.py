"""The settings of a recipe, section by section."""

from __future__ import annotations

import dataclasses
from typing import Any, get_type_hints

from align.recipe.load import ONLINE, OWNERS
from docs.generate.tables import about, sections_in, table


def settings() -> str:
    """A table for every section, and for those inside of it."""
    parts = [
        f"{'###' if '.' in key else '##'} {key}\n\n{about(cls)}\n\n{table(cls, key)}" for key, cls in sections()
    ]
    return "\n\n".join(parts)


def keys() -> list[str]:
    """All of them, dotted, as they stand in a recipe."""
    return [f"{key}.{f.name}" for key, cls in sections() for f in dataclasses.fields(cls)]


def sections() -> list[tuple[str, type[Any]]]:
    """Each section with its class, followed by those inside of it."""
    found: list[tuple[str, type[Any]]] = []
    for section, owner in (OWNERS | ONLINE).items():
        hints = get_type_hints(owner)
        inside = [(f"{section}.{f.name}", c) for f in dataclasses.fields(owner) for c in sections_in(hints[f.name])]
        found += [(section, owner), *inside]
    return found
