"""Importance weights for the gap between the engine that wrote and the model that learns."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from align.functional.masked import masked_mean, masked_sum

Level = Literal["token", "sequence", "geometric"]
Bound = Literal["truncate", "mask"]


def sampler_weights(
    old_logps: Float[Tensor, "B T"], sampler_logps: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"], level: Level
) -> Float[Tensor, "B T"]:
    """w = pi_old / mu of each token, of its completion, or the geometric mean over that; 0 where nothing is kept."""
    gap = old_logps - sampler_logps
    if level != "token":
        reduce = masked_sum if level == "sequence" else masked_mean
        gap = reduce(gap, mask)[:, None].expand(mask.shape)
    return gap.masked_fill(~mask, 0.0).exp().masked_fill(~mask, 0.0)


def near(
    advantages: Float[Tensor, "B"], gap: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"], delta: float
) -> Bool[Tensor, "B"]:
    """Whether a completion is good, or its tokens are on average at most `delta` nats less likely to the policy than to
    the engine that wrote it: gap_t = log mu(y_t) - log pi(y_t) (DeepSeek-V3.2)."""
    return (advantages >= 0) | (masked_mean(gap, mask) <= delta)


def bounded(weights: Float[Tensor, "B T"], low: float, high: float, bound: Bound) -> Float[Tensor, "B T"]:
    """Weights cut down to `high` (truncated importance sampling), or 0 outside [low, high]."""
    if bound == "truncate":
        return weights.clamp(max=high)
    return torch.where((weights >= low) & (weights <= high), weights, 0.0)
