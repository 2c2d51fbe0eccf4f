"""Estimators of KL(pi || ref) from tokens that pi wrote, of d = log pi - log ref (Schulman, "Approximating KL
divergence", 2020, http://joschu.net/blog/kl-approx.html).

As values, k1 and k3 are unbiased and k2 is not. As losses it is the other way round: the expected gradient of k2 is
that of KL(pi || ref), of k3 that of KL(ref || pi), of k1 zero.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Estimator = Literal["k1", "k2", "k3"]
LARGEST = 20.0  # beyond it exp is of no use in float32


def k1(d: Float[Tensor, "B T"]) -> Float[Tensor, "B T"]:
    """d: may be negative; its sum over a completion is the log-ratio of the whole."""
    return d


def k2(d: Float[Tensor, "B T"]) -> Float[Tensor, "B T"]:
    """d^2 / 2."""
    return 0.5 * d**2


def k3(d: Float[Tensor, "B T"]) -> Float[Tensor, "B T"]:
    """exp(-d) - 1 + d: never negative, 0 where both agree; never rising in d where d is below 0.

    A d below -20 counts as -20 in both places, and so has no gradient: held in the exponent alone it would have one of
    1, which drives the two further apart.
    """
    d = d.clamp(min=-LARGEST)
    return torch.expm1(-d) + d


ESTIMATORS: dict[Estimator, Callable[[Tensor], Tensor]] = {"k1": k1, "k2": k2, "k3": k3}


def adapted(kl_coef: float, kl: float, target: float, share: float) -> float:
    """The coefficient after a step in which the mean KL of a completion was `kl` (arXiv:1909.08593, section 2.2).

    beta (1 + clip(kl / target - 1, -0.2, 0.2) share), share = completions of the step / horizon, 1 at most: a step
    longer than the horizon would turn the coefficient's sign.
    """
    return kl_coef * (1 + min(max(kl / target - 1, -0.2), 0.2) * min(share, 1.0))
