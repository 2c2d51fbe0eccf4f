"""Sums and means over kept tokens. A mask selects, it never multiplies: junk under it (NaN too) stays out."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor


def masked_sum(values: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, " B"]:
    """Per row, the sum over kept tokens; 0 for a row that keeps none."""
    return values.masked_fill(~mask, 0.0).sum(-1)


def masked_mean(values: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, " B"]:
    """Per row, the mean over kept tokens; 0 for a row that keeps none."""
    return masked_sum(values, mask) / mask.sum(-1).clamp(min=1)
