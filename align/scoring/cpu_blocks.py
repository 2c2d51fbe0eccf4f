"""Attention on a CPU that leaves out what a mask forbids, block by block.

torch's CPU kernel pays for every entry of a dense mask, allowed or not: a packed or shared row would cost its length
squared. Here each block of queries meets only the blocks of keys that one of its queries, in any row, may see; the
kernel and so the numbers are torch's own. Half of a causal square and most of a packed row are left out.

The function is registered with transformers under `NAME`. A mask made by `with_blocks` carries its blocks along; any
other call (no mask, another device, dropout) is transformers' plain sdpa.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from align.functional.precision import lowered

NAME = "align_blocks"
SIDE = 128  # tokens of a block: smaller ones leave out more, and call the kernel more often


@dataclass(frozen=True)
class Block:
    """Queries [start, stop), the ranges of keys that they meet, and the additive mask between the two."""

    start: int
    stop: int
    keys: tuple[tuple[int, int], ...]
    mask: Float[Tensor, "R 1 Q K"]


def enable(model: nn.Module) -> None:
    """Makes a model with transformers' common attention interface use blocks where its masks carry them."""
    config: Any = model.config
    if config._attn_implementation == "sdpa" and getattr(model, "_supports_attention_backend", False):
        model.set_attn_implementation(NAME)  # type: ignore[operator]


def with_blocks(seen: Bool[Tensor, "R L L"], dtype: torch.dtype) -> Bool[Tensor, "R 1 L L"]:
    """The mask as transformers takes it, its blocks beside it where they spare work."""
    mask = seen[:, None]
    if seen.device.type == "cpu" and seen.shape[1] > SIDE:
        mask.blocks = blocks_of(seen, dtype)  # type: ignore[attr-defined]
    return mask


def blocks_of(seen: Bool[Tensor, "R L L"], dtype: torch.dtype) -> tuple[Block, ...]:
    """The blocks of queries in order. Every token sees at least itself, so none is empty."""
    length = seen.shape[1]
    count = -(-length // SIDE)
    anyone = F.pad(seen.any(0), (0, count * SIDE - length, 0, count * SIDE - length))
    met = anyone.reshape(count, SIDE, count, SIDE).any(3).any(1).tolist()
    found: list[Block] = []
    for number, row in enumerate(met):
        start, stop = number * SIDE, min((number + 1) * SIDE, length)
        keys = _ranges(row, length)
        allowed = torch.cat([seen[:, start:stop, low:high] for low, high in keys], dim=2)
        mask = torch.zeros(allowed.shape, dtype=dtype).masked_fill_(~allowed, -torch.inf)
        found.append(Block(start, stop, keys, mask[:, None]))
    return tuple(found)


def _ranges(met: list[bool], length: int) -> tuple[tuple[int, int], ...]:
    """Runs of blocks as ranges of tokens."""
    found: list[tuple[int, int]] = []
    for number, yes in enumerate(met):
        low, high = number * SIDE, min((number + 1) * SIDE, length)
        if yes and found and found[-1][1] == low:
            found[-1] = (found[-1][0], high)
        elif yes:
            found.append((low, high))
    return tuple(found)


def blocked_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **rest: Any
) -> tuple[Tensor, None]:
    """transformers' attention function; query (R, heads, L, d), answer (R, L, heads, d)."""
    blocks: tuple[Block, ...] | None = getattr(attention_mask, "blocks", None)
    if torch.is_autocast_enabled("cpu"):
        query, key, value = lowered(query, key, value)
    if blocks is None or rest.get("dropout") or blocks[0].mask.dtype != query.dtype:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **rest)
    groups = getattr(module, "num_key_value_groups", 1)
    made = _BlockAttention.apply(query, repeat_kv(key, groups), repeat_kv(value, groups), blocks, rest.get("scaling"))
    return made, None  # type: ignore[return-value]


AttentionInterface.register(NAME, blocked_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)


class _BlockAttention(torch.autograd.Function):
    """One call of the CPU kernel per block. The pieces of keys and values are summed here, because autograd would
    widen each piece to the whole length first."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, blocks: tuple[Block, ...], scale: float | None
    ) -> Tensor:
        rows, heads, length, _ = query.shape
        out = query.new_empty(rows, length, heads, value.shape[3])
        sums: list[Tensor] = []
        for block in blocks:
            made, log_sum = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
                query[:, :, block.start : block.stop],
                _pick(key, block),
                _pick(value, block),
                attn_mask=block.mask,
                scale=scale,
            )
            out[:, block.start : block.stop] = made.transpose(1, 2)
            sums.append(log_sum)
        ctx.save_for_backward(query, key, value, out, *sums)
        ctx.blocks, ctx.scale = blocks, scale
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        query, key, value, out, *sums = ctx.saved_tensors
        grads = (torch.empty_like(query), _sums_like(key), _sums_like(value))
        for block, log_sum in zip(ctx.blocks, sums, strict=True):
            there = slice(block.start, block.stop)
            of_query, of_key, of_value = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
                grad[:, there].transpose(1, 2), query[:, :, there], _pick(key, block), _pick(value, block),
                out[:, there].transpose(1, 2), log_sum, 0.0, False, attn_mask=block.mask, scale=ctx.scale,
            )  # fmt: skip
            grads[0][:, :, there] = of_query
            at = 0
            for low, high in block.keys:
                grads[1][:, :, low:high] += of_key[:, :, at : at + high - low]
                grads[2][:, :, low:high] += of_value[:, :, at : at + high - low]
                at += high - low
        return grads[0], grads[1].to(key.dtype), grads[2].to(value.dtype), None, None


def _sums_like(states: Tensor) -> Tensor:
    """Zeros to add the pieces of many blocks to."""
    return torch.zeros_like(states, dtype=torch.promote_types(states.dtype, torch.float32))


def _pick(values: Tensor, block: Block) -> Tensor:
    """(R, heads, K, d): the keys, or values, that the block meets."""
    parts = [values[:, :, low:high] for low, high in block.keys]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)
