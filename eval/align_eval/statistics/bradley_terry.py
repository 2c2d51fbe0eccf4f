"""Strengths of players from who beat whom: Bradley-Terry, with ties as halves or by Davidson's model.

    P(i beats j) = pi_i / (pi_i + pi_j),   s_i = log pi_i

Davidson: D = pi_i + pi_j + 2 nu sqrt(pi_i pi_j), P(i beats j) = pi_i / D, P(tie) = 2 nu sqrt(pi_i pi_j) / D.

`fit` is Newman's iteration, in place (M. E. J. Newman, "Efficient Computation of Rankings from Pairwise Comparisons",
JMLR 24(238), 2023), and for Davidson the joint one. The maximum exists where everyone has beaten, over others, everyone
else; `groups` finds out. A logistic prior, one win and one loss against an imagined player of strength 1 (his eq. 26),
keeps those finite who never lost, and fixes the scale. Sweeps alone find that scale slowly, the more slowly the more
games there are, so `fit` sets it after each: the games do not change with it, and the prior alone has its best there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special
from scipy.sparse.csgraph import connected_components

from align.errors import RunError

TOLERANCE = 1e-12  # of log-strengths
SWEEPS = 100_000
START_NU = 0.5


@dataclass(frozen=True, kw_only=True)
class Fit:
    strengths: np.ndarray  # (M,) pi: of geometric mean 1, or with the prior as they are
    nu: float  # of ties; 0 where they are halves
    iterations: int

    @property
    def logs(self) -> np.ndarray:
        return np.log(self.strengths)


def groups(wins: np.ndarray, *, strong: bool) -> list[list[int]]:
    """Players who have met, directly or over others; with `strong`, who have beaten each other so.

    `wins[i, j]`: of i over j, ties as halves. In the order of their first member.
    """
    count, label = connected_components(wins > 0, directed=True, connection="strong" if strong else "weak")
    found = [[int(i) for i in np.flatnonzero(label == k)] for k in range(count)]
    return sorted(found, key=lambda members: members[0])


def never_lost(wins: np.ndarray) -> list[int]:
    """Players with games and without a loss or a tie."""
    return [i for i in range(len(wins)) if wins[:, i].sum() == 0 and wins[i].sum() > 0]


def never_won(wins: np.ndarray) -> list[int]:
    return never_lost(wins.T)


def fit(wins: np.ndarray, *, prior: bool = True, tolerance: float = TOLERANCE) -> Fit:
    """`wins[i, j]` is how often i beat j; where ties are halves they are in it. RunError where no maximum exists."""
    _require(wins, prior)
    place = at_best_scale if prior else scaled
    strengths, count = _until(lambda pi: place(newman(wins, pi, prior=prior)), np.ones(len(wins)), tolerance)
    return Fit(strengths=strengths, nu=0.0, iterations=count)


def fit_davidson(wins: np.ndarray, ties: np.ndarray, *, prior: bool = True, tolerance: float = TOLERANCE) -> Fit:
    """`ties[i, j] = ties[j, i]` is how often i and j tied. Where nobody did, nu is 0."""
    if not ties.any():
        return fit(wins, prior=prior, tolerance=tolerance)
    _require(wins + ties / 2, prior)
    start = np.append(np.ones(len(wins)), START_NU)
    place = at_best_scale if prior else scaled

    def sweep(both: np.ndarray) -> np.ndarray:
        strengths, nu = davidson(wins, ties, both, prior=prior)
        return np.append(place(strengths), nu)

    found, count = _until(sweep, start, tolerance)
    return Fit(strengths=found[:-1], nu=float(found[-1]), iterations=count)


def _until(sweep: Callable[[np.ndarray], np.ndarray], values: np.ndarray, tolerance: float) -> tuple[np.ndarray, int]:
    """Sweeps until the logarithms stand still. A number that is 0 (nu may be) stands still, too."""
    for count in range(1, SWEEPS + 1):
        newer = sweep(values)
        both = (values > 0) & (newer > 0)
        gap = float(np.abs(np.log(newer[both]) - np.log(values[both])).max(initial=0.0))
        values = newer
        if gap < tolerance:
            return values, count
        if not math.isfinite(gap):
            break
    raise RunError(f"Bradley-Terry: the strengths did not settle in {SWEEPS} sweeps")


def _require(halves: np.ndarray, prior: bool) -> None:
    if not prior and len(groups(halves, strong=True)) > 1:
        raise RunError("Bradley-Terry: no maximum without a prior: the players have not all beaten each other")


def newman(wins: np.ndarray, strengths: np.ndarray, *, prior: bool = False, in_place: bool = True) -> np.ndarray:
    """One sweep: player after player from the newest strengths, or all from the old ones."""
    old, new = strengths, strengths.copy()
    for i in range(len(new)):
        pi = new if in_place else old
        sums = pi + pi[i]
        extra = 1 / (pi[i] + 1) if prior else 0.0
        new[i] = ((wins[i] * pi / sums).sum() + extra) / ((wins[:, i] / sums).sum() + extra)
    return new if prior else scaled(new)


def zermelo(wins: np.ndarray, strengths: np.ndarray) -> np.ndarray:
    """One sweep of the classical iteration, for comparison."""
    games = wins + wins.T
    return scaled(wins.sum(1) / (games / (strengths[:, None] + strengths)).sum(1))


def davidson(
    wins: np.ndarray, ties: np.ndarray, both: np.ndarray, *, prior: bool = False
) -> tuple[np.ndarray, float]:
    """One joint sweep of (strengths, nu), both from the old point."""
    pi, nu = both[:-1], float(both[-1])
    root = np.sqrt(pi[:, None] * pi)
    sums = pi[:, None] + pi + 2 * nu * root
    halves = wins + ties / 2
    extra = 1 / (pi + 1) if prior else 0.0
    above = (halves * (pi + nu * root) / sums).sum(1) + extra
    below = (halves.T * (1 + nu * root / pi[:, None]) / sums).sum(1) + extra
    tied = (ties * (pi[:, None] + pi) / sums).sum() / 2  # each pair once
    decided = 2 * (wins * root / sums).sum()
    new = above / below
    return (new if prior else scaled(new)), float(tied / decided)


def scaled(strengths: np.ndarray) -> np.ndarray:
    """The same to a geometric mean of 1."""
    return strengths / math.exp(float(np.log(strengths).mean()))


def at_best_scale(strengths: np.ndarray) -> np.ndarray:
    """The same to the scale that the prior likes best: as many imagined games are won as lost."""
    logs, shift = np.log(strengths), 0.0
    for _ in range(100):
        share = special.expit(logs + shift)
        step = float((2 * share - 1).sum() / (2 * share * (1 - share)).sum())
        shift -= max(-1.0, min(1.0, step))
        if abs(step) < 1e-15 * max(1.0, abs(shift)):
            break
    return np.exp(logs + shift)


def log_likelihood(wins: np.ndarray, found: Fit, ties: np.ndarray | None = None) -> float:
    """Of games in an order that does not matter; ties are of Davidson's model, or halves that stand in `wins`."""
    pi = found.strengths
    root = np.sqrt(pi[:, None] * pi)
    sums = pi[:, None] + pi + 2 * found.nu * root
    total = float((wins * np.log(pi[:, None] / sums)).sum())
    if ties is not None and ties.any():
        total += float((ties * np.log(2 * found.nu * root / sums)).sum()) / 2
    return total


def win_probabilities(found: Fit) -> np.ndarray:
    """(M, M) the share that the row earns against the column, ties as halves; 1/2 against oneself."""
    pi = found.strengths
    half = found.nu * np.sqrt(pi[:, None] * pi)
    return (pi[:, None] + half) / (pi[:, None] + pi + 2 * half)
