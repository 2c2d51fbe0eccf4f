"""What the sections of the page are made of: drawings, tables of words, and what is folded away."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from align.report.parts.blocks import Table
from align_eval.page.strips import Drawing, Forest, forest
from align_eval.results.document import Ranked

OPEN = 24  # rows of a forest that are shown at once
HALF = 0.5  # of a win rate: no difference
Row = TypeVar("Row")


@dataclass(frozen=True, kw_only=True)
class Part:
    """Drawings, and what is folded away under them."""

    title: str = ""
    shown: list[Drawing] = field(default_factory=list)
    folded: list[tuple[str, Table | list[Drawing]]] = field(default_factory=list)
    note: str = ""


def rows_of(spec: Forest) -> tuple[Drawing, Drawing | None]:
    """A forest, and the rest of it where it is long."""
    first, rest = spec.strips[:OPEN], spec.strips[OPEN:]
    return forest(replace(spec, strips=first)), forest(replace(spec, strips=rest)) if rest else None


def part_of(
    specs: Iterable[Forest], *, title: str = "", note: str = "", tables: Iterable[tuple[str, Table]] = ()
) -> Part:
    specs = [spec for spec in specs if spec.strips]
    made = [rows_of(spec) for spec in specs]
    more: list[tuple[str, Table | list[Drawing]]] = [
        (f"{spec.title}: the other {len(spec.strips) - OPEN:,}", [rest])
        for spec, (_, rest) in zip(specs, made, strict=True)
        if rest is not None
    ]
    return Part(title=title, shown=[first for first, _ in made], folded=[*more, *tables], note=note)


def grouped(rows: Iterable[Row], key: Callable[[Row], Any]) -> list[tuple[Any, list[Row]]]:
    """In the order of the first row of each group."""
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return list(groups.items())


def slots_of(names: Iterable[str]) -> dict[str, int]:
    """A colour for each name."""
    return {name: i % 8 for i, name in enumerate(dict.fromkeys(names))}


def leads(row: Ranked, rows: Iterable[Ranked]) -> bool:
    """Whether it is the best, or cannot be told from it."""
    best = min(rows, key=lambda r: r.rank)
    return row is best or best.model in row.tied_with or row.model in best.tied_with
