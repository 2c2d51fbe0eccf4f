"""Small logistic fits with soft labels, many at once: the same rows and columns, another weighing of the rows in each.

    loss(theta) = - sum_i w_i (q_i log P_i + (1 - q_i) log(1 - P_i)),   P_i = sigmoid(x_i . theta)

`ridged` adds 1/2 sum_k (theta_k / width_k)^2, `lassoed` minimises |theta|_1 + C loss. Neither has an intercept of its
own: a column of ones is one. Both are Newton's method, so that they end at rounding.
"""

from __future__ import annotations

import numpy as np
from scipy import special

from align.errors import RunError

STEPS = 100
TOLERANCE = 1e-12
LONGEST = 4.0  # of a step
HALVINGS = 40
INNER = 200  # rounds of coordinate descent


def ridged(
    columns: np.ndarray, targets: np.ndarray, weights: np.ndarray, widths: np.ndarray, start: np.ndarray | None = None
) -> np.ndarray:
    """(R, K) for (R, n) weights of (n, K) rows with targets (n,) from 0 to 1; `start` (K,) is a point nearby."""
    found = np.zeros((len(weights), columns.shape[1])) + (0.0 if start is None else start)
    for _ in range(STEPS):
        gradient, hessian = _slopes(columns, targets, weights, found)
        gradient += found / widths**2
        hessian += np.diag(1 / widths**2)
        step = np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0]
        reach = np.abs(step).max(1, keepdims=True)
        found -= step * np.minimum(1.0, LONGEST / np.maximum(reach, 1e-300))
        if float(reach.max()) < TOLERANCE * max(1.0, float(np.abs(found).max())):
            return found
    raise RunError(f"a logistic fit did not settle in {STEPS} steps")


def lassoed(columns: np.ndarray, targets: np.ndarray, weights: np.ndarray, c: float) -> np.ndarray:
    """(R, K), by Newton's steps on the loss with the absolute values kept as they are."""
    found = np.zeros((len(weights), columns.shape[1]))
    value = _objective(columns, targets, weights, found, c)
    for _ in range(STEPS):
        gradient, hessian = _slopes(columns, targets, weights, found)
        step = _minimum(gradient * c, hessian * c, found) - found
        size = np.ones(len(found))
        for _ in range(HALVINGS):
            newer = found + size[:, None] * step
            there = _objective(columns, targets, weights, newer, c)
            worse = there > value + 1e-12 * np.abs(value)
            if not worse.any():
                break
            size[worse] /= 2
        found, value = newer, there
        if float(np.abs(size[:, None] * step).max()) < TOLERANCE * max(1.0, float(np.abs(found).max())):
            return found
    raise RunError(f"a logistic fit with C {c:g} did not settle in {STEPS} steps")


def objective(columns: np.ndarray, targets: np.ndarray, weights: np.ndarray, found: np.ndarray, c: float) -> float:
    """|theta|_1 + C loss of one fit."""
    return float(_objective(columns, targets, weights[None], found[None], c)[0])


def log_likelihoods(columns: np.ndarray, targets: np.ndarray, found: np.ndarray) -> np.ndarray:
    """(R, n) q log P + (1 - q) log(1 - P) of each row."""
    logits = found @ columns.T
    return targets * special.log_expit(logits) + (1 - targets) * special.log_expit(-logits)


def _objective(
    columns: np.ndarray, targets: np.ndarray, weights: np.ndarray, found: np.ndarray, c: float
) -> np.ndarray:
    loss = -(weights * log_likelihoods(columns, targets, found)).sum(1)
    return np.abs(found).sum(1) + c * loss


def _slopes(
    columns: np.ndarray, targets: np.ndarray, weights: np.ndarray, found: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(R, K) and (R, K, K) of the loss."""
    share = special.expit(found @ columns.T)
    gradient = (weights * (share - targets)) @ columns
    size = columns.shape[1]
    products = (columns[:, :, None] * columns[:, None, :]).reshape(len(columns), -1)
    return gradient, ((weights * share * (1 - share)) @ products).reshape(-1, size, size)


def _minimum(gradient: np.ndarray, hessian: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Of the quadratic with the absolute values: coordinate descent, all fits side by side."""
    found = start.copy()
    for _ in range(INNER):
        before = found.copy()
        for k in range(found.shape[1]):
            curve = np.maximum(hessian[:, k, k], 1e-300)
            slope = gradient[:, k] + np.einsum("rj,rj->r", hessian[:, k], found - start)
            target = found[:, k] - slope / curve
            found[:, k] = np.sign(target) * np.maximum(np.abs(target) - 1 / curve, 0.0)
        if float(np.abs(found - before).max()) < TOLERANCE / 10:
            break
    return found
