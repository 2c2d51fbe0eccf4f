"""Packing: which documents share a row."""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections.abc import Sequence


def pack(widths: Sequence[int], row_tokens: int) -> list[list[int]]:
    """The groups of each row, for groups of these many tokens: rows are as wide as the widest, or `row_tokens`."""
    return pack_best_fit(widths, max([row_tokens, 1, *widths]))


def pack_best_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Best-fit decreasing: the documents of each row, rows in the order in which they were opened.

    Documents go longest first (ties keep their order), each into the row with the least free space that still holds it
    (ties: the oldest row), otherwise into a new one. A document longer than `capacity` counts as cut to `capacity`.
    The idea of packing whole documents is from Ding et al., arXiv:2404.10830. Takes n log n time.

    Raises `ValueError` for a capacity or a length below one.
    """
    if capacity < 1:
        raise ValueError(f"capacity is {capacity}; a row must hold at least one token")
    if any(length < 1 for length in lengths):
        raise ValueError("every document must have at least one token")
    rows: list[list[int]] = []
    rows_by_space: dict[int, list[int]] = {}  # free tokens -> heap of rows
    spaces: list[int] = []  # the keys above, ascending
    for document in sorted(range(len(lengths)), key=lambda d: -lengths[d]):
        length = min(lengths[document], capacity)
        place = bisect_left(spaces, length)
        if place == len(spaces):
            row, space = len(rows), capacity
            rows.append([])
        else:
            space = spaces[place]
            row = heapq.heappop(rows_by_space[space])
            if not rows_by_space[space]:
                del rows_by_space[space], spaces[place]
        rows[row].append(document)
        left = space - length
        if left not in rows_by_space:
            rows_by_space[left] = []
            insort(spaces, left)
        heapq.heappush(rows_by_space[left], row)
    return rows
