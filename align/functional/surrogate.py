"""Policy-gradient losses per token or per completion, before any mean."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

LARGEST = 20.0  # of a log-ratio


def clipped_surrogate(
    log_ratio: Float[Tensor, "*B"], advantages: Float[Tensor, "*B"], low: float, high: float
) -> Float[Tensor, "*B"]:
    """max(-A r, -A clip(r, low, high)), r = exp(log_ratio) (arXiv:1707.06347, eq. 7).

    The ratio is a token's, or a whole completion's. low 0 and high inf give the plain importance-weighted loss.
    """
    ratio = ratio_of(log_ratio)
    return torch.maximum(-advantages * ratio, -advantages * ratio.clamp(low, high))


def quadratic_surrogate(
    log_ratio: Float[Tensor, "*B"], advantages: Float[Tensor, "*B"], epsilon: float
) -> Float[Tensor, "*B"]:
    """-(A r - |A| (r - 1)^2 / (2 epsilon)), r = exp(log_ratio) (SPO, arXiv:2401.16025): least at 1 + epsilon sign A."""
    ratio = ratio_of(log_ratio)
    return advantages.abs() * (ratio - 1) ** 2 / (2 * epsilon) - advantages * ratio


def ratio_of(log_ratio: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    """exp(log_ratio), held at e^20: what is so far off has no gradient that means anything, and inf has NaN."""
    return log_ratio.clamp(max=LARGEST).exp()


def is_clipped(
    log_ratio: Float[Tensor, "*B"], advantages: Float[Tensor, "*B"], low: float, high: float
) -> Bool[Tensor, "*B"]:
    """Where the clip takes the gradient away: the ratio has left the range on the side that the advantage favours."""
    ratio = ratio_of(log_ratio)
    return ((ratio > high) & (advantages > 0)) | ((ratio < low) & (advantages < 0))


def dual_clipped(losses: Float[Tensor, "*B"], advantages: Float[Tensor, "*B"], bound: float) -> Float[Tensor, "*B"]:
    """At most -bound A where A < 0 (arXiv:1912.09729, eq. 5): a bad token that became likely pulls no harder."""
    return torch.where(advantages < 0, torch.minimum(losses, -bound * advantages), losses)


def clipped_value_loss(
    values: Float[Tensor, "B T"],
    old_values: Float[Tensor, "B T"],
    returns: Float[Tensor, "B T"],
    value_clip: float,
) -> Float[Tensor, "B T"]:
    """max((V - R)^2, (clip(V, V_old - c, V_old + c) - R)^2) / 2; an infinite c is plain half squared error."""
    near = torch.minimum(torch.maximum(values, old_values - value_clip), old_values + value_clip)
    return 0.5 * torch.maximum((values - returns) ** 2, (near - returns) ** 2)
