"""Whether a paired difference could be chance: exact tests, what could have been seen, and many tests at once.

    sign_test     two-sided exact binomial test of wins against losses, ties left out. On right and wrong answers of two
                  models to the same questions it is McNemar's exact test
    permutation   under no difference each unit's sign is a coin: how often a mean as far from 0 comes of coins
    detectable    the smallest true difference that such a test finds with power 80 % (normal approximation)
    holm, bh      p-values for a table: Holm (1979) bounds the chance of any false find, Benjamini and Hochberg (1995)
                  the expected share of false finds among all
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from scipy import special, stats

EXACT = 12  # up to this many nonzero units all signs are tried
PERMUTATIONS = 9_999
BLOCK = 1_000
ROUNDING = 1e-9


def sign_test(wins: int, losses: int) -> float:
    """1 where nothing differs."""
    return float(stats.binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0


def permutation(differences: np.ndarray, num: int = PERMUTATIONS, seed: int = 0) -> float:
    """Two-sided, over units: one mean difference each. All signs for few units, else `num` random ones and the real."""
    numbers = np.asarray(differences, dtype=np.float64)
    moved = np.abs(numbers[numbers != 0])
    if not len(moved):
        return 1.0
    seen = abs(float(numbers.sum())) - ROUNDING * float(moved.sum())
    if len(moved) <= EXACT:
        every = np.concatenate([signs @ moved for signs in _all_signs(len(moved))])
        return float(np.mean(np.abs(every) >= seen))
    as_far = sum(int((np.abs(signs @ moved) >= seen).sum()) for signs in _random_signs(len(moved), num, seed))
    return (as_far + 1) / (num + 1)


def _all_signs(n: int) -> Iterator[np.ndarray]:
    bits = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
    yield bits * 2.0 - 1


def _random_signs(n: int, num: int, seed: int) -> Iterator[np.ndarray]:
    random = np.random.default_rng(seed)
    for start in range(0, num, BLOCK):
        rows = min(BLOCK, num - start)
        bits = np.unpackbits(random.integers(256, size=(rows, -(-n // 8)), dtype=np.uint8), axis=1)[:, :n]
        yield bits * 2.0 - 1


def detectable(differences: np.ndarray, level: float = 0.95, power: float = 0.8) -> float | None:
    """In the unit of the differences, one for each independent unit. None where fewer than two, or all are equal."""
    numbers = np.asarray(differences, dtype=np.float64)
    if len(numbers) < 2 or float(np.ptp(numbers)) == 0:
        return None
    reach = float(special.ndtri((1 + level) / 2) + special.ndtri(power))
    return reach * float(numbers.std(ddof=1)) / math.sqrt(len(numbers))


def holm(values: Sequence[float | None]) -> list[float | None]:
    """Adjusted p-values in the order given; None stays and is not counted."""
    ranked = _ranked(values)
    found: list[float | None] = [None] * len(values)
    worst = 0.0
    for rank, (value, place) in enumerate(ranked):
        worst = max(worst, min(1.0, (len(ranked) - rank) * value))
        found[place] = worst
    return found


def bh(values: Sequence[float | None]) -> list[float | None]:
    """Adjusted p-values (false discovery rate) in the order given; None stays and is not counted."""
    ranked = _ranked(values)
    found: list[float | None] = [None] * len(values)
    least = 1.0
    for rank, (value, place) in reversed(list(enumerate(ranked, start=1))):
        least = min(least, value * len(ranked) / rank)
        found[place] = least
    return found


def _ranked(values: Sequence[float | None]) -> list[tuple[float, int]]:
    return sorted((value, place) for place, value in enumerate(values) if value is not None)
