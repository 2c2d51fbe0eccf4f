"""Which rank computes what, in which portions: a pure function of the lengths of a whole optimiser step.

Every rank computes the same plan and takes its part, so the counts of the step are known before the first backward
pass, and a resumed run needs no loader state. The plan has the same shape on every rank: who has less runs empty
micro-batches and as many head chunks as the others, because under ZeRO-3 and FSDP every module call is a collective.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from align.scoring.layout import RowLayout, Shape
from align.scoring.packing import pack

GroupShape = tuple[Shape, ...]  # the trees of one group


@dataclass(frozen=True)
class MicroBatch:
    """One forward and backward pass of one rank."""

    groups: tuple[int, ...]  # positions in the step; may be empty
    num_chunks: int  # portions in which the LM head is applied
    bundles: tuple[tuple[int, ...], ...] = ()  # of divisible batches: the groups that are laid out as one


@dataclass(frozen=True)
class Plan:
    """One optimiser step."""

    layout: RowLayout
    ranks: tuple[tuple[MicroBatch, ...], ...]


@dataclass(frozen=True)
class Limits:
    """What one rank can hold."""

    max_tokens: int  # tokens of a micro-batch, padding included
    head_chunk: int  # predicted tokens whose logits stand in memory at once
    world_size: int = 1
    row_tokens: int = 0  # packed and shared rows are filled up to this; 0: as wide as the widest group among them


def make_plan(shapes: Sequence[GroupShape], layout: RowLayout, limits: Limits) -> Plan:
    """Balances groups over ranks by tokens, then cuts each rank's share into micro-batches, longest first."""
    shares = [_cut(shapes, share, layout, limits) for share in _balance(shapes, limits.world_size)]
    depth = max(1, *(len(share) for share in shares))
    shares = [share + [()] * (depth - len(share)) for share in shares]
    chunks = [
        max(1, *(math.ceil(_predicted(shapes, share[i]) / limits.head_chunk) for share in shares)) for i in range(depth)
    ]
    return Plan(layout, tuple(tuple(MicroBatch(g, n) for g, n in zip(share, chunks, strict=True)) for share in shares))


def row_width(shape: GroupShape, layout: RowLayout) -> int:
    """Tokens of the widest row that a group needs."""
    trees = [trunk + sum(branches) for trunk, branches in shape]
    return max(trees) if layout == "padded" else sum(trees)


def filled_rows(shapes: Sequence[GroupShape], layout: RowLayout, row_tokens: int) -> list[list[GroupShape]]:
    """The trees of each row, as `align.scoring.layout.lay_out` will place them."""
    if layout == "padded":
        return [[(tree,)] for shape in shapes for tree in shape]
    widths = [row_width(shape, layout) for shape in shapes]
    return [[shapes[i] for i in row] for row in pack(widths, row_tokens)]


def num_padded(shapes: Sequence[GroupShape], layout: RowLayout, row_tokens: int) -> int:
    """Tokens of the rows that these groups fill, padding included."""
    rows = filled_rows(shapes, layout, row_tokens)
    return len(rows) * max((sum(map(num_tokens, row)) for row in rows), default=0)


def num_tokens(shape: GroupShape) -> int:
    return sum(trunk + sum(branches) for trunk, branches in shape)


def _balance(shapes: Sequence[GroupShape], world_size: int) -> list[list[int]]:
    """Longest first onto the least loaded rank; each share stays in order of length."""
    order = sorted(range(len(shapes)), key=lambda i: (-num_tokens(shapes[i]), shapes[i], i))
    loads = [0] * world_size
    shares: list[list[int]] = [[] for _ in range(world_size)]
    for i in order:
        rank = loads.index(min(loads))
        loads[rank] += num_tokens(shapes[i])
        shares[rank].append(i)
    return shares


def _cut(
    shapes: Sequence[GroupShape], share: Sequence[int], layout: RowLayout, limits: Limits
) -> list[tuple[int, ...]]:
    order = sorted(share, key=lambda i: (-row_width(shapes[i], layout), shapes[i], i))
    cuts: list[tuple[int, ...]] = []
    while order:
        # More groups never need fewer tokens, so the largest number that fits is found by halving.
        size = bisect_right(
            range(2, len(order) + 1), limits.max_tokens,
            key=lambda n: num_padded([shapes[i] for i in order[:n]], layout, limits.row_tokens),
        ) + 1  # fmt: skip
        cuts.append(tuple(order[:size]))
        order = order[size:]
    return cuts


def _predicted(shapes: Sequence[GroupShape], groups: Sequence[int]) -> int:
    return sum(sum(branches) for i in groups for _, branches in shapes[i])
