"""Quantities that many preference methods share."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor

from align.functional.masked import masked_sum


def log_ratio(
    logps: Float[Tensor, "B T"], ref_logps: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]
) -> Float[Tensor, " B"]:
    """u = log pi(y|x) - log pi_ref(y|x), summed over kept tokens (arXiv:2305.18290, eq. 5, without beta)."""
    return masked_sum(logps - ref_logps, mask)
