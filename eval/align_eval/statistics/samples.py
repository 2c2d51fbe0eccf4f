"""Several samples of one problem: n of them, c right, of which k are drawn without replacement.

    pass_at_k     at least one of k is right: 1 - C(n-c, k) / C(n, k). Chen et al. 2021, arXiv 2107.03374
    pass_hat_k    all k are right: C(c, k) / C(n, k). Yao et al. 2024, arXiv 2406.12045
    maj_at_k      the answer that most of k give is right; what counts where several lead is the `Tie`
    best_of_k     the expected reward of the best of k

All are unbiased; 1 - (1 - c/n)^k is not. They are of one problem; a benchmark is the mean over its problems.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Hashable, Iterator, Sequence
from itertools import combinations
from typing import Literal, get_args

import numpy as np

Tie = Literal["fractional", "first_seen", "pessimistic"]
# fractional: the share of the leaders that is right; first_seen: the leader that was given first; pessimistic: only a
# sole leader counts
MOST = 20_000  # subsets that are all looked at
DRAWN = 5_000  # where there are more


def pass_at_k(n: int, c: int, k: int) -> float:
    """In the product form, which does not overflow."""
    _check(n, c, k)
    return 1.0 if n - c < k else 1.0 - math.prod(1 - k / i for i in range(n - c + 1, n + 1))


def pass_hat_k(n: int, c: int, k: int) -> float:
    _check(n, c, k)
    return math.comb(c, k) / math.comb(n, k)


def best_of_k(rewards: Sequence[float], k: int) -> float:
    n = len(rewards)
    _check(n, 0, k)
    return sum(math.comb(i, k - 1) * r for i, r in enumerate(sorted(rewards))) / math.comb(n, k)


def best_of_k_kl(k: int) -> float:
    """Nats: log k - (k - 1) / k. The divergence of best-of-k from the policy is at most that, and that without ties."""
    return math.log(k) - (k - 1) / k


def maj_at_k(
    answers: Sequence[Hashable | None], right: Collection[Hashable], k: int, tie: Tie = "fractional", seed: int = 0
) -> float:
    """The mean over subsets: all of them, or 5,000 seeded ones where there are more than 20,000.

    Equal answers are one candidate; None, an answer that could not be read, has no vote. Where none votes it is 0.
    """
    _check(len(answers), 0, k)
    if tie not in get_args(Tie):
        raise ValueError(f"tie {tie!r} is none of {', '.join(get_args(Tie))}")
    found = [_credit([answers[i] for i in chosen], right, tie) for chosen in _subsets(len(answers), k, seed)]
    return math.fsum(found) / len(found)


def _subsets(n: int, k: int, seed: int) -> Iterator[Sequence[int]]:
    """Places in the order in which they were sampled."""
    if math.comb(n, k) <= MOST:
        yield from combinations(range(n), k)
        return
    random = np.random.default_rng(seed)
    for _ in range(DRAWN):
        yield [int(i) for i in np.sort(random.choice(n, size=k, replace=False))]


def _credit(given: Sequence[Hashable | None], right: Collection[Hashable], tie: Tie) -> float:
    votes = Counter(answer for answer in given if answer is not None)
    if not votes:
        return 0.0
    most = max(votes.values())
    leaders = [answer for answer, count in votes.items() if count == most]  # in the order first given
    if tie == "first_seen":
        return float(leaders[0] in right)
    if tie == "pessimistic":
        return float(len(leaders) == 1 and leaders[0] in right)
    return sum(answer in right for answer in leaders) / len(leaders)


def _check(n: int, c: int, k: int) -> None:
    if not (1 <= k <= n and 0 <= c <= n):
        raise ValueError(f"k {k} of {n} samples, {c} right: expected 1 <= k <= n and 0 <= c <= n")
