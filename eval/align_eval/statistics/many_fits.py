"""Many Bradley-Terry fits at once, for the bootstrap: Newton's method on all resamples side by side.

The same maximum as `bradley_terry.fit` with the prior, reached in a handful of steps where Newman's iteration, which
the prior slows, needs hundreds of sweeps. Both models are exponential families: with x the share that i earns of a game
(1, 1/2 or 0) and y whether it is a tie, the gradient is seen less expected (x, y), and the Hessian their covariance.
"""

from __future__ import annotations

import math

import numpy as np

from align.errors import RunError

TOLERANCE = 1e-12
STEPS = 60
LONGEST = 1.5  # of a step in log-strength, where curvature is still that of another place
LEAST_LOG_NU = -20.0  # a resample without a tie has no smallest nu


def fit_many(wins: np.ndarray, ties: np.ndarray | None, start: np.ndarray, nu: float) -> np.ndarray:
    """(R, M) log-strengths with the logistic prior, of (R, M, M) wins and, for Davidson's model, ties.

    `start` (M,) and `nu` are those of the whole data. Where `ties` is None they are halves in `wins`.
    """
    count, players = wins.shape[:2]
    point = np.tile(np.append(start, math.log(nu) if ties is not None and nu > 0 else LEAST_LOG_NU), (count, 1))
    halves = wins if ties is None else wins + ties / 2
    games = halves + halves.transpose(0, 2, 1)
    earned = halves.sum(2)
    tied = None if ties is None else ties.sum((1, 2)) / 2
    open_rows = np.arange(count)
    for _ in range(STEPS):
        some = None if tied is None else tied[open_rows]
        step = _step(games[open_rows], earned[open_rows], some, point[open_rows])
        reach = np.abs(step).max(1)
        step *= np.minimum(1.0, LONGEST / np.maximum(reach, 1e-300))[:, None]
        point[open_rows] += step
        point[:, players] = np.maximum(point[:, players], LEAST_LOG_NU)
        open_rows = open_rows[reach >= TOLERANCE * np.maximum(1.0, np.abs(point[open_rows, :players]).max(1))]
        if not len(open_rows):
            return point[:, :players]
    raise RunError(f"Bradley-Terry: {len(open_rows)} of {count} resamples did not settle in {STEPS} steps of Newton")


def _step(games: np.ndarray, earned: np.ndarray, tied: np.ndarray | None, point: np.ndarray) -> np.ndarray:
    """(R, M + 1) Newton's step; that of log nu is 0 where ties are halves."""
    players = games.shape[1]
    logs, log_nu = point[:, :players], point[:, players]
    gap = (logs[:, :, None] - logs[:, None, :]) / 2
    tie = np.exp(log_nu)[:, None, None] * (0.0 if tied is None else 2.0)
    sums = 2 * np.cosh(np.minimum(np.abs(gap), 300)) + tie
    won, even = np.exp(np.clip(gap, -300, 300)) / sums, tie / sums
    share = won + even / 2
    spread = games * (won + even / 4 - share**2)  # variance of what i earns of each game
    imagined = 1 / (1 + np.exp(-logs))
    size = players if tied is None else players + 1
    hessian = np.zeros((len(games), size, size))
    hessian[:, :players, :players] = -spread
    diagonal = np.arange(players)
    hessian[:, diagonal, diagonal] += spread.sum(2) + 2 * imagined * (1 - imagined)
    gradient = np.zeros((len(games), size))
    gradient[:, :players] = earned - (games * share).sum(2) + 1 - 2 * imagined
    step = np.zeros_like(point)
    if tied is None:
        step[:, :players] = np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0]
        return step
    cross = (games * (even / 2 - share * even)).sum(2)
    hessian[:, :players, players] = hessian[:, players, :players] = cross
    hessian[:, players, players] = (games * even * (1 - even)).sum((1, 2)) / 2 + 1e-12
    gradient[:, players] = tied - (games * even).sum((1, 2)) / 2
    at_bound = (log_nu <= LEAST_LOG_NU) & (gradient[:, players] <= 0)
    hessian[at_bound, players, :players] = hessian[at_bound, :players, players] = 0.0
    gradient[at_bound, players] = 0.0
    return np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0]
