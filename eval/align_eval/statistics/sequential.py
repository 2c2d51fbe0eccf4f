"""Evidence that stays valid however often one looks: a gate that is asked again at every checkpoint.

A test at 5 % that is asked 50 times of models that are no better says so far more often than once in 20. Here evidence
is wealth: a bet against "the mean is at most m" that cannot be expected to grow where that is true,

    E(m) = mean over lambda of prod_i (1 + lambda (x_i - m)),   0 <= lambda < 1 / (m - least x)

over prompts i, whose order does not matter (Waudby-Smith and Ramdas, "Estimating means of bounded random variables by
betting", JRSS B 86 (2024), arXiv 2010.09686). No assumption but independent prompts and known bounds. By Markov's
inequality E(m) >= 1 / alpha happens with probability alpha at most.

Several looks: look k has weight w_k = 1 / (k (k + 1)), which add up to 1, and its gate opens where E_k reaches
1 / (w_k alpha). So the chance that any look ever opens for a model that is no better is alpha at most, over any number
of looks and however they depend on each other, which they do where all checkpoints answer the same prompts. Each look
is judged by its own evidence: an earlier good checkpoint does not let a later bad one pass.
"""

from __future__ import annotations

import math

import numpy as np

BETS = 40
LEAST_BET = 0.02
PRECISION = 1e-9


def log_evidence(values: np.ndarray, mean: float, bounds: tuple[float, float] = (-1.0, 1.0)) -> float:
    """log E(mean): how strongly the values, one for each prompt, speak for a mean above it. 0 where there are none."""
    numbers = np.asarray(values, dtype=np.float64)
    least, most = bounds
    if len(numbers) and (numbers.min() < least or numbers.max() > most):
        raise ValueError(f"values from {numbers.min():g} to {numbers.max():g}; expected {least:g} to {most:g}")
    if mean >= most:
        return -math.inf if len(numbers) else 0.0
    if mean <= least:
        return math.inf if len(numbers) and bool((numbers > least).any()) else 0.0
    bets = np.geomspace(LEAST_BET, 0.99, BETS) / (mean - least)
    seen, counts = np.unique(numbers, return_counts=True)
    return _log_mean(np.log1p(bets[:, None] * (seen - mean)) @ counts)


def weight(look: int) -> float:
    """Of look 1, 2, ...: they add up to 1."""
    return 1 / (look * (look + 1))


def log_needed(look: int, level: float = 0.95) -> float:
    """log of the evidence at which the gate of this look opens."""
    return -math.log1p(-level) - math.log(weight(look))


def lower_bound(values: np.ndarray, needed: float, bounds: tuple[float, float] = (-1.0, 1.0)) -> float:
    """The largest mean against which the log of the evidence is `needed`: log(1 / alpha) for a single look."""
    low, high = bounds
    if not len(values):
        return low
    while high - low > PRECISION:
        middle = (low + high) / 2
        low, high = (middle, high) if log_evidence(values, middle, bounds) >= needed else (low, middle)
    return low


def _log_mean(logs: np.ndarray) -> float:
    """log of the mean of exp."""
    most = float(logs.max())
    return most if math.isinf(most) else most + math.log(float(np.exp(logs - most).mean()))
