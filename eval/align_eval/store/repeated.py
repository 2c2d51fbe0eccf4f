"""Rows that are there twice: the same ones, which count once, and those that contradict each other, which are told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from align.system.lines import Tell

Record = TypeVar("Record")
SHOWN = 3  # places that a message names


@dataclass(frozen=True, kw_only=True)
class Repeat:
    """Several rows of one key."""

    key: tuple[Any, ...]
    places: tuple[str, ...]  # file:line of each; the first counts
    differ: bool  # whether they do not all say the same


def repeats(rows: Sequence[tuple[str, Record]], key: Callable[[Record], tuple[Any, ...]]) -> list[Repeat]:
    """Every key that more than one row has, in the order of their first rows."""
    groups: dict[tuple[Any, ...], list[tuple[str, Record]]] = {}
    for place, row in rows:
        groups.setdefault(key(row), []).append((place, row))
    return [
        Repeat(key=k, places=tuple(p for p, _ in group), differ=any(row != group[0][1] for _, row in group))
        for k, group in groups.items()
        if len(group) > 1
    ]


def once(rows: Sequence[tuple[str, Record]], key: Callable[[Record], tuple[Any, ...]], tell: Tell) -> list[Record]:
    """The first row of each key. Tells how many others there are, and where those stand that say something else."""
    found = repeats(rows, key)
    if found:
        spare = sum(len(r.places) - 1 for r in found)
        differing = [r for r in found if r.differ]
        shown = "; ".join(f"{_named(r.key)}: {', '.join(r.places[:SHOWN])}" for r in differing[:SHOWN])
        more = f"{len(differing)} differ, of which the first counts: {shown}" if differing else "all say the same"
        tell(f"{spare} {'row is' if spare == 1 else 'rows are'} there more than once; {more}")
    first: dict[tuple[Any, ...], Record] = {}
    for _, row in rows:
        first.setdefault(key(row), row)
    return list(first.values())


def _named(key: tuple[Any, ...]) -> str:
    return " ".join("/".join(part) if isinstance(part, tuple) else str(part) for part in key if part != "")
