"""Which rank computes what, in which portions: a pure function of the lengths of a whole optimiser step.

Every rank computes the same plan and takes its part, so the counts of the step are known before the first backward
pass, and a resumed run needs no loader state. The plan has the same shape on every rank: who has less runs empty
micro-batches and as many head chunks as the others, because under ZeRO-3 and FSDP every module call is a collective.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from align.data.forest import RowLayout, Shape

GroupShape = tuple[Shape, ...]  # the trees of one group


@dataclass(frozen=True)
class MicroBatch:
    """One forward and backward pass of one rank."""

    groups: tuple[int, ...]  # positions in the step; may be empty
    num_chunks: int  # portions in which the LM head is applied


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


def make_plan(shapes: Sequence[GroupShape], layout: RowLayout, limits: Limits) -> Plan:
    """Balances groups over ranks by tokens, then cuts each rank's share into micro-batches, longest first."""
    shares = [_cut(shapes, share, layout, limits.max_tokens) for share in _balance(shapes, limits.world_size)]
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


def num_rows(shape: GroupShape, layout: RowLayout) -> int:
    return len(shape) if layout == "padded" else 1


def num_tokens(shape: GroupShape) -> int:
    return sum(trunk + sum(branches) for trunk, branches in shape)


def _balance(shapes: Sequence[GroupShape], world_size: int) -> list[list[int]]:
    """Longest first onto the least loaded rank; each share stays in order of length."""
    order = sorted(range(len(shapes)), key=lambda i: (-num_tokens(shapes[i]), i))
    loads = [0] * world_size
    shares: list[list[int]] = [[] for _ in range(world_size)]
    for i in order:
        rank = loads.index(min(loads))
        loads[rank] += num_tokens(shapes[i])
        shares[rank].append(i)
    return shares


def _cut(
    shapes: Sequence[GroupShape], share: Sequence[int], layout: RowLayout, max_tokens: int
) -> list[tuple[int, ...]]:
    order = sorted(share, key=lambda i: (-row_width(shapes[i], layout), i))
    cuts: list[tuple[int, ...]] = []
    current: list[int] = []
    rows = width = 0
    for i in order:
        more = num_rows(shapes[i], layout)
        wider = max(width, row_width(shapes[i], layout))
        if current and (rows + more) * wider > max_tokens:
            cuts.append(tuple(current))
            current, rows, wider = [], 0, row_width(shapes[i], layout)
        current.append(i)
        rows, width = rows + more, wider
    if current:
        cuts.append(tuple(current))
    return cuts


def _predicted(shapes: Sequence[GroupShape], groups: Sequence[int]) -> int:
    return sum(sum(branches) for i in groups for _, branches in shapes[i])
