"""What a model takes beside its tokens, for each layout and each attention kernel.

    sdpa             a boolean mask (R, 1, L, L), True = may attend; exact, and a tenth faster than adding one
    flex_attention   torch's block-sparse kernel: only visible blocks of 128 x 128 are computed, so rows may be long.
                     On the CPU it runs forward only; its gradient is for a GPU
    eager, others    an additive mask, 0 or the lowest finite number

Plain rows (one sequence each) get no mask: the model makes its own, and is what the others are measured against.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention.flex_attention import BlockMask, create_block_mask

from align.models.parts import Windows
from align.scoring.cpu_blocks import NAME as BLOCKS
from align.scoring.cpu_blocks import with_blocks
from align.scoring.layout import PADDING, Rows, visible

FLEX = "flex_attention"
BLOCK = 128  # side of flex attention's blocks


def model_inputs(rows: Rows, windows: Windows, attention: str, dtype: torch.dtype) -> dict[str, Any]:
    """The arguments of the model's forward."""
    if rows.tree is None:
        return {"input_ids": rows.input_ids, "use_cache": False}
    if attention == FLEX:
        rows = aligned(rows, BLOCK)
    return {
        "input_ids": rows.input_ids,
        "attention_mask": attention_mask(rows, windows, attention, dtype),
        "position_ids": rows.position_ids,
        "use_cache": False,
    }


def leaves_out_blocks(attention: str, device: torch.device) -> bool:
    """Whether packed and shared rows cost what is visible in them; otherwise they cost their length squared."""
    return attention == FLEX or (attention == BLOCKS and device.type == "cpu")


def attention_mask(rows: Rows, windows: Windows, attention: str, dtype: torch.dtype) -> Any:
    """The mask of packed or shared rows: one, or one per kind of layer."""
    if not windows.mapping:
        return _mask(rows, windows.window, attention, dtype)
    kinds = {"full_attention": None, "sliding_attention": windows.window}
    return {kind: _mask(rows, window, attention, dtype) for kind, window in kinds.items()}


def _mask(rows: Rows, window: int | None, attention: str, dtype: torch.dtype) -> Tensor | BlockMask:
    if attention == FLEX:
        return block_mask(rows, window)
    seen = visible(rows, window)
    return with_blocks(seen, dtype) if attention in ("sdpa", BLOCKS) else additive(seen, dtype)


def additive(seen: Bool[Tensor, "R L L"], dtype: torch.dtype) -> Tensor:
    """(R, 1, L, L). Eager attention adds the mask to the scores; a boolean one would add 1 and be silently wrong."""
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, torch.finfo(dtype).min)[:, None]


def block_mask(rows: Rows, window: int | None = None) -> BlockMask:
    """`align.scoring.layout.visible`, as flex attention wants it."""
    path, trunk = _paths(rows)
    position = rows.position_ids.int()
    # A window is a tensor too, the earliest position that a token sees: all kinds of layers then share one compiled
    # kernel, which no captured number can make dynamic.
    earliest = torch.zeros_like(position) if window is None else position - (window - 1)

    height, width = rows.input_ids.shape
    return create_block_mask(
        lambda row, head, query, key: (
            ((path[row, key] == path[row, query]) | (path[row, key] == trunk[row, query]))
            & (position[row, key] >= earliest[row, query])
            & (query >= key)
        ),
        B=height,
        H=None,
        Q_LEN=width,
        KV_LEN=width,
        device=rows.input_ids.device,
        BLOCK_SIZE=BLOCK,
    )


def _paths(rows: Rows) -> tuple[Int[Tensor, "R L"], Int[Tensor, "R L"]]:
    """A number per branch, and that of the trunk it grows from; each padding token is a tree of its own."""
    assert rows.tree is not None
    assert rows.branch is not None
    place = torch.arange(rows.input_ids.shape[1], device=rows.input_ids.device)
    tree = torch.where(rows.tree == PADDING, -1 - place, rows.tree)
    step = rows.branch.max() + 1
    return (tree * step + rows.branch).int(), (tree * step).int()


def aligned(rows: Rows, multiple: int) -> Rows:
    """Padded at the right to a width of a multiple: few different shapes, so few compiled kernels."""
    more = -rows.input_ids.shape[1] % multiple
    fill = {"input_ids": 0, "position_ids": 0, "tree": PADDING, "branch": 0}
    wider = {name: F.pad(getattr(rows, name), (0, more), value=value) for name, value in fill.items()}
    return dataclasses.replace(rows, **wider)
