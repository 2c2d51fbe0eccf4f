"""From logits to log-probabilities of given tokens, with one (N, V) buffer for forward and backward together.

With p = softmax(x / temperature) and H its entropy, per token:

    logp = log p[target]           d logp / d x = (onehot(target) - p) / temperature
    H    = -sum_v p_v log p_v      d H / d x    = -p (log p + H) / temperature

The forward pass keeps p; the backward pass turns it into the gradient in place. So a graph can be walked once: a second
backward pass finds the buffer changed, and autograd refuses. Everything is computed in float32, in float64 for float64
logits. A logit of -inf is a token that cannot occur: probability 0, gradient 0.
"""

# An autograd Function and torch.special have no complete types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

CACHE_BLOCK = 1 << 18  # elements worked on at a time on CPU: 1 MB of float32 stays in a core's cache
DEVICE_BLOCK = 1 << 25  # elsewhere a block only bounds the transient memory


class TokenStatistics(NamedTuple):
    """Of each token given what precedes it."""

    logps: Float[Tensor, " N"]
    entropies: Float[Tensor, " N"]  # nats, of the whole predictive distribution
    hits: Bool[Tensor, " N"]  # the likeliest token is the target


def logps(logits: Float[Tensor, "N V"], targets: Int[Tensor, " N"], temperature: float = 1.0) -> Float[Tensor, " N"]:
    """log softmax(logits / temperature)[target], differentiable once with respect to the logits."""
    assert temperature > 0, f"temperature {temperature}"
    return cast(Tensor, _Logps.apply(logits, targets, temperature))


def entropies(logits: Float[Tensor, "N V"], temperature: float = 1.0) -> Float[Tensor, " N"]:
    """-sum_v p_v log p_v in nats, of p = softmax(logits / temperature); without gradient."""
    return statistics(logits.detach(), logits.new_zeros(len(logits), dtype=torch.long), temperature).entropies


def hits(logits: Float[Tensor, "N V"], targets: Int[Tensor, " N"]) -> Bool[Tensor, " N"]:
    """Whether the likeliest token is the target (of equally likely ones, the first)."""
    return logits.argmax(-1) == targets


def statistics(logits: Float[Tensor, "N V"], targets: Int[Tensor, " N"], temperature: float = 1.0) -> TokenStatistics:
    """All three in one pass over the logits; log-probabilities alone have a gradient."""
    assert temperature > 0, f"temperature {temperature}"
    return TokenStatistics(*cast(tuple[Tensor, Tensor, Tensor], _Statistics.apply(logits, targets, temperature)))


def _blocks(logits: Tensor) -> list[slice]:
    rows, width = logits.shape
    size = max((DEVICE_BLOCK if logits.is_cuda else CACHE_BLOCK) // width, 1)
    return [slice(start, start + size) for start in range(0, rows, size)]


def _buffer(logits: Tensor) -> Tensor:
    return torch.empty_like(logits, dtype=torch.promote_types(logits.dtype, torch.float32))


def _grad_from_probs(probs: Tensor, targets: Tensor, scale: Tensor) -> Tensor:
    """scale * (onehot - probs), written over `probs`."""
    probs.mul_(-scale[:, None])
    return probs.scatter_add_(1, targets[:, None], scale[:, None])


class _Logps(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, temperature: float) -> Tensor:
        probs = _buffer(logits)
        logps = probs.new_empty(len(logits))
        for rows in _blocks(logits):
            block = probs[rows]
            top = logits[rows].amax(-1, keepdim=True).to(block.dtype)
            torch.sub(logits[rows], top, out=block).div_(temperature)
            chosen = block.gather(1, targets[rows, None])
            total = block.exp_().sum(-1, keepdim=True)
            logps[rows] = (chosen - total.log()).squeeze(1)
            block.div_(total)
        ctx.save_for_backward(probs, targets)
        ctx.temperature, ctx.dtype = temperature, logits.dtype
        return logps

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        probs, targets = ctx.saved_tensors
        return _grad_from_probs(probs, targets, grad / ctx.temperature).to(ctx.dtype), None, None


class _Statistics(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
        probs = _buffer(logits)
        logps, entropies = probs.new_empty(2, len(logits))
        hits = torch.empty_like(targets, dtype=torch.bool)
        for rows in _blocks(logits):
            block = probs[rows]
            top, likeliest = logits[rows].max(-1, keepdim=True)
            torch.sub(logits[rows], top.to(block.dtype), out=block).div_(temperature)
            chosen = block.gather(1, targets[rows, None])
            weights = block.exp()
            total = weights.sum(-1, keepdim=True)
            # 0 * -inf would be NaN; a weight that is 0 stays 0 times the smallest finite number.
            mean = block.clamp_(min=torch.finfo(block.dtype).min).mul_(weights).sum(-1, keepdim=True) / total
            logps[rows] = (chosen - total.log()).squeeze(1)
            entropies[rows] = (total.log() - mean).squeeze(1)
            hits[rows] = (likeliest == targets[rows, None]).squeeze(1)
            torch.div(weights, total, out=block)
        ctx.save_for_backward(probs, targets)
        ctx.mark_non_differentiable(entropies, hits)
        ctx.temperature, ctx.dtype = temperature, logits.dtype
        return logps, entropies, hits

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        probs, targets = ctx.saved_tensors
        return _grad_from_probs(probs, targets, grads[0] / ctx.temperature).to(ctx.dtype), None, None
