"""Mixtures of sources: what their logits are pulled by."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def mixture_slope(p: Float[Tensor, " M"], values: Float[Tensor, " M"]) -> Float[Tensor, " M"]:
    """The gradient of sum_i p_i values_i with respect to lambda, where p = softmax(lambda): p_j (v_j - sum_i p_i v_i).

    It sums to 0, and a constant added to all values changes nothing.
    """
    assert p.shape == values.shape
    return p * (values - (p * values).sum())
