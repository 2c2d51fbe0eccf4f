"""Groups laid out as rows of one forward pass.

    padded   one row per sequence, padded at the right; plain causal attention
    packed   a few sequences end to end in a row; each attends to itself alone, positions restart
    shared   a prompt stands once per group; completions attend to it and to themselves, positions go on from it

Packed and shared rows are made of *trees*: a trunk (the prompt) and branches (completions). A sequence alone is a tree
with one branch. Axes here: R rows of L tokens, S sequences, N predicted tokens.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from align.batches import Tokens
from align.scoring.packing import pack

RowLayout = Literal["padded", "packed", "shared"]
Shape = tuple[int, tuple[int, ...]]  # a tree's lengths: its trunk, its branches
PADDING = -1  # the tree that padding belongs to


@dataclass(frozen=True)
class Rows:
    """A micro-batch as the models see it."""

    input_ids: Int[Tensor, "R L"]
    position_ids: Int[Tensor, "R L"]
    tree: Int[Tensor, "R L"] | None  # None: one sequence per row, so plain causal attention does
    branch: Int[Tensor, "R L"] | None  # 0 on the trunk, which every branch of its tree sees
    predictor: Int[Tensor, "2 N"]  # (row, place) whose hidden state predicts the token
    target: Int[Tensor, " N"]  # the token itself
    origin: Int[Tensor, "2 N"]  # (sequence, place in its completion) of the token
    last: Int[Tensor, "2 S"]  # (row, place) of each sequence's last token

    def to(self, device: torch.device) -> Rows:
        moved = {k: v.to(device, non_blocking=True) for k, v in vars(self).items() if v is not None}
        return dataclasses.replace(self, **moved)

    def __len__(self) -> int:
        return self.last.shape[1]


@dataclass(frozen=True)
class Tree:
    """Sequences with one prompt, by their numbers in the micro-batch."""

    sequences: tuple[int, ...]
    members: tuple[Tokens, ...]

    def __len__(self) -> int:
        return len(self.members[0].prompt) + sum(len(m.completion) for m in self.members)


def shapes(groups: Sequence[Sequence[Tokens]], layout: RowLayout) -> list[tuple[Shape, ...]]:
    """The lengths of each group's trees in this layout: what a plan needs to know of it."""
    return [
        tuple((len(t.members[0].prompt), tuple(len(m.completion) for m in t.members)) for t in _trees(members, layout))
        for members in groups
    ]


def lay_out(groups: Sequence[Sequence[Tokens]], layout: RowLayout, row_tokens: int = 0) -> Rows:
    """Numbers the sequences group by group, lays them out, and says where each predicted token stands.

    Packed and shared rows are as wide as the widest group, or `row_tokens` where that is more.
    """
    trees: list[list[Tree]] = []
    count = 0
    for members in groups:
        trees.append(_trees(members, layout, count))
        count += len(members)
    if layout == "padded":
        return _rows([[tree] for group in trees for tree in group], plain=True)
    widths = [sum(len(tree) for tree in group) for group in trees]
    bins = pack(widths, row_tokens)
    return _rows([[tree for i in row for tree in trees[i]] for row in bins], plain=False)


def _trees(members: Sequence[Tokens], layout: RowLayout, start: int = 0) -> list[Tree]:
    if layout != "shared":
        return [Tree((start + i,), (m,)) for i, m in enumerate(members)]
    by_prompt: dict[bytes, list[int]] = {}
    for i, member in enumerate(members):
        by_prompt.setdefault(member.prompt.tobytes(), []).append(i)
    return [Tree(tuple(start + i for i in same), tuple(members[i] for i in same)) for same in by_prompt.values()]


def _rows(rows: list[list[Tree]], *, plain: bool) -> Rows:
    width = max((sum(len(t) for t in row) for row in rows), default=1)
    height = max(len(rows), 1)  # a rank that has run out of work still runs one token, so that collectives match
    ids = np.zeros((height, width), dtype=np.int64)
    positions = np.zeros((height, width), dtype=np.int64)
    tree_of = np.full((height, width), PADDING, dtype=np.int64)
    branch_of = np.zeros((height, width), dtype=np.int64)
    predictors: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}  # sequence -> places, targets, times
    lasts: dict[int, tuple[int, int]] = {}
    row_of: dict[int, int] = {}
    for r, row in enumerate(rows):
        at = 0
        for number, tree in enumerate(row):
            trunk = tree.members[0].prompt
            end = at + len(trunk)
            ids[r, at:end] = trunk
            positions[r, at:end] = np.arange(len(trunk))
            tree_of[r, at : at + len(tree)] = number
            root = end - 1  # the trunk's last token predicts the first token of every branch
            for b, (sequence, member) in enumerate(zip(tree.sequences, tree.members, strict=True)):
                length = len(member.completion)
                ids[r, end : end + length] = member.completion
                positions[r, end : end + length] = len(trunk) + np.arange(length)
                branch_of[r, end : end + length] = b + 1
                times = np.flatnonzero(member.mask)
                places = np.where(times == 0, root, end + times - 1)
                predictors[sequence] = (places, member.completion[times].astype(np.int64), times)
                row_of[sequence] = r
                lasts[sequence] = (r, end + length - 1 if length else root)
                end += length
            at += len(tree)
    if plain:
        positions[:] = np.arange(width)
    return _index(ids, positions, None if plain else (tree_of, branch_of), predictors, row_of, lasts)


def _index(
    ids: np.ndarray,
    positions: np.ndarray,
    forest: tuple[np.ndarray, np.ndarray] | None,
    predictors: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]],
    row_of: dict[int, int],
    lasts: dict[int, tuple[int, int]],
) -> Rows:
    order = sorted(predictors)
    none = np.zeros((0,), dtype=np.int64)
    places = np.concatenate([none, *(predictors[s][0] for s in order)])
    targets = np.concatenate([none, *(predictors[s][1] for s in order)])
    times = np.concatenate([none, *(predictors[s][2] for s in order)])
    sequences = np.repeat(np.array(order, dtype=np.int64), [len(predictors[s][0]) for s in order])
    rows = np.array([row_of[s] for s in order], dtype=np.int64)[sequences] if order else none
    return Rows(
        input_ids=torch.from_numpy(ids),
        position_ids=torch.from_numpy(positions),
        tree=None if forest is None else torch.from_numpy(forest[0]),
        branch=None if forest is None else torch.from_numpy(forest[1]),
        predictor=torch.from_numpy(np.stack([rows, places])),
        target=torch.from_numpy(targets),
        origin=torch.from_numpy(np.stack([sequences, times])),
        last=torch.from_numpy(np.array([lasts[s] for s in order], dtype=np.int64).reshape(-1, 2).T.copy()),
    )


def occurrences(rows: Rows) -> Int[Tensor, "R L"]:
    """In how many sequences each token stands: a shared prompt's in as many as go on from it, padding in none."""
    row, place = rows.last  # (S,) each
    if rows.tree is None or rows.branch is None:
        inside = torch.arange(rows.input_ids.shape[1], device=row.device) <= place[:, None]
    else:
        tree, branch = rows.tree[row], rows.branch[row]  # (S, L)
        own = branch == rows.branch[row, place][:, None]
        inside = (tree == rows.tree[row, place][:, None]) & (own | (branch == 0))
    return torch.zeros_like(rows.input_ids).index_add(0, row, inside.long())


def visible(rows: Rows, window: int | None = None) -> Bool[Tensor, "R L L"]:
    """Who may attend to whom: entry [r, i, j] lets token i see token j.

    A token sees the trunk of its tree and its own branch, up to itself. `window` counts positions, not places: in a
    shared row the second completion stands further from its prompt than it is.
    """
    assert rows.tree is not None
    assert rows.branch is not None
    same_tree = rows.tree[:, :, None] == rows.tree[:, None, :]
    on_path = (rows.branch[:, None, :] == 0) | (rows.branch[:, :, None] == rows.branch[:, None, :])
    place = torch.arange(rows.input_ids.shape[1], device=rows.input_ids.device)
    seen = same_tree & on_path & (place[:, None] >= place[None, :])
    if window is not None:
        seen &= rows.position_ids[:, :, None] - rows.position_ids[:, None, :] < window
    # A padding token sees itself, because a row of the mask that is all -inf is NaN under eager attention.
    return seen & (rows.tree[:, :, None] != PADDING) | torch.eye(place.numel(), dtype=torch.bool, device=place.device)
