"""Intervals of shares: of right answers, of games won, and of paired differences of yes and no.

The bootstrap sees nothing where a share is near 0 or 1: of 20 right answers out of 20 all resamples are 20 of 20. These
intervals add a little imagined data and hold there, too.

    wilson    the share of yes among independent answers. Wilson, JASA 22 (1927)
    share     the mean of units' numbers from 0 to 1, which may be halves (ties, or two orders that disagree). z^2 / 2
              units of 0 and as many of 1 are added, and then the normal interval is taken. Of yes and no this is
              Agresti and Coull's, The American Statistician 52 (1998), with Wilson's centre
    discord   the mean of paired differences of yes and no: -1, 0, 1. One pair of each kind of discord is added.
              Bonett and Price, Journal of Educational and Behavioral Statistics 37 (2012)
"""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from align_eval.statistics.estimate import Estimate


def z_of(level: float) -> float:
    """How many standard errors a normal interval of this level reaches."""
    return float(special.ndtri((1 + level) / 2))


def wilson(successes: float, n: int, level: float = 0.95) -> Estimate:
    if n == 0:
        return Estimate(value=None, level=level, unit="share", why="nothing was measured")
    z, p = z_of(level), successes / n
    centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = ((centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n))
    return Estimate(
        value=p, low=max(0.0, low), high=min(1.0, high), level=level, n=n, clusters=n, method="Wilson", unit="share"
    )


def share(values: np.ndarray, level: float = 0.95) -> Estimate:
    """The mean of one number from 0 to 1 for each independent unit: Wilson's where all are 0 or 1."""
    numbers = np.asarray(values, dtype=np.float64)
    if len(numbers) and (numbers.min() < 0 or numbers.max() > 1):
        raise ValueError(f"shares from {numbers.min():g} to {numbers.max():g}; expected 0 to 1")
    if not len(numbers) or bool(np.isin(numbers, (0.0, 1.0)).all()):
        return wilson(float(numbers.sum()), len(numbers), level)
    z = z_of(level)
    weight = len(numbers) + z * z
    centre = (numbers.sum() + z * z / 2) / weight
    spread = ((numbers - centre) ** 2).sum() + z * z / 2 * (centre**2 + (1 - centre) ** 2)
    half = z * math.sqrt(spread) / weight
    low, high = max(0.0, float(centre - half)), min(1.0, float(centre + half))
    return Estimate(
        value=float(numbers.mean()), low=low, high=high, level=level, n=len(numbers), clusters=len(numbers),
        method="Agresti-Coull over prompts", unit="share",
    )  # fmt: skip


def discord(differences: np.ndarray, level: float = 0.95) -> Estimate:
    """The mean of paired differences that are -1, 0 or 1."""
    numbers = np.asarray(differences, dtype=np.float64)
    if not bool(np.isin(numbers, (-1.0, 0.0, 1.0)).all()):
        raise ValueError("differences other than -1, 0 and 1")
    if not len(numbers):
        return Estimate(value=None, level=level, unit="share", why="nothing was measured")
    n = len(numbers) + 2
    centre = numbers.sum() / n
    half = z_of(level) * math.sqrt(((numbers**2).sum() + 2) / n - centre**2) / math.sqrt(n)
    return Estimate(
        value=float(numbers.mean()), low=max(-1.0, float(centre - half)), high=min(1.0, float(centre + half)),
        level=level, n=len(numbers), clusters=len(numbers), method="Bonett-Price over pairs", unit="share",
    )  # fmt: skip
