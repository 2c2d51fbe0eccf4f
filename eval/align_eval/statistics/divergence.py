"""How far a policy is from its reference, and what it earns for that.

Of log-probabilities of samples of the policy, in nats:

    k1 = log pi - log ref,   k2 = k1^2 / 2,   k3 = exp(-k1) - 1 + k1

k1 and k3 are unbiased; k3 is never negative and varies less. The sum over a sequence and the mean over tokens are two
different numbers, and both are named.

A frontier is what a run's checkpoints earn at which divergence. Two are compared at equal divergence, on the best that
each reaches up to there, by linear interpolation between its checkpoints; never beyond them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Divergence:
    sequences: np.ndarray  # (B,) k1, summed over the tokens of each
    k1: float  # means over tokens
    k2: float
    k3: float

    @property
    def mean(self) -> float:
        """Of the sums, over sequences."""
        return float(self.sequences.mean())


def divergence(logps: np.ndarray, ref_logps: np.ndarray, mask: np.ndarray) -> Divergence:
    """(B, T) each; what is under the mask does not count. ValueError where it leaves nothing."""
    kept = np.asarray(mask, dtype=bool)
    if not kept.any():
        raise ValueError("the mask leaves no token")
    k1 = np.where(kept, logps, 0.0) - np.where(kept, ref_logps, 0.0)
    of_tokens = k1[kept]
    return Divergence(
        sequences=k1.sum(1),
        k1=float(of_tokens.mean()),
        k2=float((of_tokens**2 / 2).mean()),
        k3=float((np.expm1(-of_tokens) + of_tokens).mean()),
    )


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """The checkpoints that no other one beats with as little divergence, by divergence; and how far the run went."""

    kl: tuple[float, ...]
    reward: tuple[float, ...]
    most_kl: float

    def at(self, kl: float) -> float | None:
        """The best reward up to this divergence. None before the first checkpoint and beyond the last."""
        if not self.kl or not self.kl[0] <= kl <= self.most_kl:
            return None
        return float(np.interp(kl, self.kl, self.reward))


def envelope(kl: Sequence[float], reward: Sequence[float]) -> Envelope:
    kept: list[tuple[float, float]] = []
    for x, y in sorted(zip(kl, reward, strict=True), key=lambda point: (point[0], -point[1])):
        if not kept or y > kept[-1][1]:
            kept.append((x, y))
    return Envelope(kl=tuple(x for x, _ in kept), reward=tuple(y for _, y in kept), most_kl=max(kl, default=math.nan))


def shared_range(one: Envelope, other: Envelope) -> tuple[float, float] | None:
    """The divergences that both have reached."""
    if not one.kl or not other.kl:
        return None
    low, high = max(one.kl[0], other.kl[0]), min(one.most_kl, other.most_kl)
    return (low, high) if low <= high else None


def overoptimised(kl: Sequence[float], gold: Sequence[float]) -> tuple[float, float] | None:
    """(divergence, gold reward) after which the gold reward falls; None where the last checkpoint has the most."""
    order = sorted(range(len(kl)), key=lambda i: kl[i])
    best = max(order, key=lambda i: gold[i], default=None)
    return None if best is None or best == order[-1] else (kl[best], gold[best])


def gao_fit(kl: Sequence[float], gold: Sequence[float], *, best_of_n: bool = False) -> tuple[float, float]:
    """(alpha, beta) of gold = d (alpha - beta log d), or d (alpha - beta d) for best-of-n; d = sqrt(KL).

    The gold reward is 0 at the start. Least squares over checkpoints with a divergence above 0. Gao, Schulman, Hilton,
    arXiv 2210.10760, section 3.
    """
    d = np.sqrt([x for x in kl if x > 0])
    y = np.array([r for x, r in zip(kl, gold, strict=True) if x > 0])
    if len(d) < 2:
        raise ValueError(f"{len(d)} checkpoints with a divergence above 0; two are needed")
    alpha, beta = np.linalg.lstsq(np.column_stack([d, -d * (d if best_of_n else np.log(d))]), y, rcond=None)[0]
    return float(alpha), float(beta)
