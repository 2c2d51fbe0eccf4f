"""Sums and means over kept tokens. A mask selects, it never multiplies: junk under it (NaN too) stays out."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def kept(values: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B T"]:
    """0 wherever nothing is kept, before anything non-linear could make NaN gradients of what stands there."""
    return values.masked_fill(~mask, 0.0)


def masked_sum(values: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, " B"]:
    """Per row, the sum over kept tokens; 0 for a row that keeps none."""
    return values.masked_fill(~mask, 0.0).sum(-1)


def masked_mean(values: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, " B"]:
    """Per row, the mean over kept tokens; 0 for a row that keeps none."""
    return masked_sum(values, mask) / mask.sum(-1).clamp(min=1)


def last_kept(mask: Bool[Tensor, "B T"]) -> Int[Tensor, " B"]:
    """Per row, the largest index that is kept, on whichever side the padding stands; -1 for a row that keeps none."""
    places = torch.arange(mask.shape[-1], device=mask.device)
    return torch.where(mask, places, -1).amax(-1)
