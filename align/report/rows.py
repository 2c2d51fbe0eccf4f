"""data.json: how many rows were read and dropped, and how long they are. Any nesting of splits and sources will do."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from align.report.measures import number
from align.report.parts.bars import histogram
from align.report.parts.blocks import Block, Table, Words, figures, fold
from align.report.text import exact, short

BINS = 30
NOISE = ("splits", "sources", "histograms", "counts")  # names of levels that say nothing
SHOWN = 3  # histograms that are not folded away


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Rows of one source and split."""

    name: str
    read: int
    reasons: dict[str, int]  # why rows were dropped
    weight: float | None = None  # share of the draws in a mixture
    shortened: int = 0  # rows that were cut to the maximum length, and kept

    @property
    def dropped(self) -> int:
        return sum(self.reasons.values())

    def reasons_in_words(self) -> str:
        told = [f"{reason.replace('_', ' ')} {rows:,}" for reason, rows in self.reasons.items() if rows]
        told += [f"(and {self.shortened:,} were shortened)"] if self.shortened else []
        return ", ".join(told) or "none"


def counts(tree: Any) -> list[Counts]:
    """Every dictionary with the key `read`, named by the path to it and by its own `source` and `split`."""
    found: list[Counts] = []
    for path, node in _walk(tree, ()):
        if isinstance(node, dict) and _is_count(node.get("read")):
            named = [str(node[k]) for k in ("source", "split") if isinstance(node.get(k), str)]
            words = [p for p in path if p not in named and not p.isdigit()] if named else list(path)
            words = [w for w in words if w not in NOISE] + named
            weight, shortened = number(node.get("weight")), number(node.get("shortened"))
            found.append(
                Counts(
                    name=", ".join(words) or "the data",
                    read=int(node["read"]),
                    reasons=_reasons(node),
                    weight=weight,
                    shortened=int(shortened) if shortened and _is_count(shortened) else 0,
                )
            )
    return found


def _reasons(node: dict[str, Any]) -> dict[str, int]:
    dropped = node.get("dropped", 0)
    if isinstance(dropped, dict):
        return {str(k): int(v) for k, v in dropped.items() if _is_count(v)}
    if isinstance(dropped, list):
        return {"dropped": len(dropped)}
    return {"dropped": int(dropped)} if _is_count(dropped) and dropped else {}


def histograms(tree: Any) -> list[tuple[str, list[float], list[float]]]:
    """(name, edges, counts) of every list of lengths, and of every {"edges", "counts"} that are not all 0."""
    found: list[tuple[str, list[float], list[float]]] = []
    for path, node in _walk(tree, ()):
        path = (*path[:-1], "whole lengths") if path and path[-1] == "lengths" else path
        name = ", ".join(p.replace("_", " ") for p in path if p not in NOISE) or "lengths"
        if isinstance(node, dict) and _numbers(node.get("edges")) and _numbers(node.get("counts")):
            if len(node["edges"]) == len(node["counts"]) + 1 and _past_zero(node):
                found.append((name, [float(e) for e in node["edges"]], [float(c) for c in node["counts"]]))
        elif isinstance(node, list) and _numbers(node) and path[-1] not in ("edges", "counts"):
            found.append((name, *binned([float(n) for n in node])))
    return found


def _past_zero(node: dict[str, Any]) -> bool:
    """Whether a bar holds more than zeros."""
    return any(count for edge, count in zip(node["edges"][1:], node["counts"], strict=True) if edge > 1)


def binned(lengths: Sequence[float]) -> tuple[list[float], list[float]]:
    """Whole-number bins of equal width, about thirty."""
    low, high = math.floor(min(lengths)), math.floor(max(lengths)) + 1
    width = max(1, math.ceil((high - low) / BINS))
    edges = [float(e) for e in range(low, high + width, width)]
    bars = [0.0] * (len(edges) - 1)
    for length in lengths:
        bars[int((length - low) // width)] += 1
    return edges, bars


def _walk(node: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if path:
        yield path, node
    if isinstance(node, dict):
        if not path and "read" in node:
            yield path, node
        for key, value in node.items():
            yield from _walk(value, (*path, str(key)))
    elif isinstance(node, list) and not _numbers(node):
        for i, value in enumerate(node):
            yield from _walk(value, (*path, str(i)))


def _numbers(node: Any) -> bool:
    return isinstance(node, list) and bool(node) and all(_is_count(v) for v in node)


def _is_count(value: Any) -> bool:
    found = number(value)
    return found is not None and abs(found) < 1e12


def data_section(tree: Any) -> list[Block]:
    """A table of what was read and dropped, and the length histograms."""
    rows = counts(tree)
    weighted = any(c.weight is not None for c in rows)
    head = ["Source", "Read", "Kept", "Dropped, and why", *(["Weight"] if weighted else [])]
    told = [[*_told(c), *([short(c.weight) if c.weight is not None else ""] if weighted else [])] for c in rows]
    notes = tree.get("notes") if isinstance(tree, dict) else None
    bars = [
        histogram(f"{name[:1].upper()}{name[1:]}", edges, bars, slot % SHOWN)
        for slot, (name, edges, bars) in enumerate(histograms(tree))
    ]
    return [
        *([Table(head=head, rows=told)] if told else []),
        *(Words(str(text)) for text in (notes if isinstance(notes, list) else ())),
        *figures(bars[:SHOWN]),
        *fold("More lengths", figures(bars[SHOWN : 8 * SHOWN])),
    ]


def _told(c: Counts) -> list[str]:
    return [c.name, exact(c.read, f"{c.read:,}"), f"{c.read - c.dropped:,}", c.reasons_in_words()]
