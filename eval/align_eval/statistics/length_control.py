"""Win rates as they would be at equal length: what the judge's liking for length gives is taken out.

Each prompt gives q, the share that the model earns of it against the baseline (games averaged), and d, how much shorter
its answer is, in standard deviations of that over the prompts. The length-controlled win rate is what a logistic fit
says for d = 0.

    logit P = theta_0 + theta_len tanh(d) [+ psi gamma],    LC = mean over prompts of sigmoid(theta_0 [+ psi gamma])

gamma is a known difficulty of the prompt, if there is one. `controlled` is ours: the intercept is free, and is not
drawn to 0. Half a game won and half a game lost at d = 0 and a wide prior on the others keep the fit finite where one
side always wins; nothing else is added. The standard deviation is not centred, so that d = 0 is equal length whatever
other models there are.

`alpaca` is AlpacaEval 2's (Dubois, Galambosi, Liang, Hashimoto, "Length-Controlled AlpacaEval", arXiv 2404.04475):
|theta|_1 is penalised, and rows of the baseline made concise and verbose, each of half the weight lambda, hold
theta_len. Its penalty draws the intercept, and so the win rate, towards one half where data are few. Intervals: prompts
are drawn again and all is fitted anew; d, those extra rows and the chosen C stay.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import special

from align_eval.statistics.estimate import Estimate
from align_eval.statistics.logistic import lassoed, log_likelihoods, ridged
from align_eval.statistics.resampling import USUAL, Resampling, of_statistic

WIDTH = 5.0  # standard deviation of the prior on theta_len and psi, in logits
WIDE = 1e6  # of one that does nothing but hold a column of zeros
CS = tuple(float(c) for c in np.logspace(-4, 4, 10))
FOLDS = 5
RARE = 0.02  # share of prompts on one side of equal length
REGULARIZE = 0.2  # lambda


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """One prompt each."""

    preferences: np.ndarray  # (n,) from 0 to 1: the model's share
    model: np.ndarray  # (n,) lengths of its answers, characters or tokens
    baseline: np.ndarray  # (n,)
    difficulty: np.ndarray | None = None  # (n,) gamma

    @property
    def shorter(self) -> np.ndarray:
        """(n,) d: positive where the model's answer is shorter. All 0 where the lengths differ nowhere."""
        gap = np.asarray(self.baseline, dtype=np.float64) - np.asarray(self.model, dtype=np.float64)
        spread = float(gap.std(ddof=1)) if len(gap) > 1 else 0.0
        return gap / spread if spread > 0 else np.sign(gap)


@dataclass(frozen=True, kw_only=True)
class Gamed:
    """The baseline made concise and verbose, against itself: rows that hold the effect of length."""

    shorter: np.ndarray
    difficulty: np.ndarray
    preferences: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Controlled:
    estimate: Estimate  # share
    coefficients: dict[str, float] = field(default_factory=dict)  # length, difficulty, intercept: logits
    c: float | None = None  # of the penalised fit
    warning: str = ""


def controlled(rows: Lengths, how: Resampling = USUAL) -> Controlled:
    """Our form. None where the prompts say nothing of what length does: the prior alone would make the number."""
    if why := _silent(rows):
        n = len(rows.preferences)
        return Controlled(estimate=Estimate(value=None, level=how.level, n=n, unit="share", why=why))
    columns = _columns(rows)
    shape = np.vstack([columns, _imagined(columns)])
    targets = np.append(rows.preferences, 0.5)
    widths = np.append(np.full(columns.shape[1] - 1, WIDTH), WIDE)

    nearby = ridged(shape, targets, np.ones((1, len(shape))), widths)[0]

    def fits(counts: np.ndarray) -> np.ndarray:
        return ridged(shape, targets, np.hstack([counts, np.ones((len(counts), 1))]), widths, nearby)

    return _told(rows, columns, fits, how)


def _silent(rows: Lengths) -> str:
    """Why the effect of length cannot be told; empty where it can."""
    gap = np.asarray(rows.baseline, dtype=np.float64) - np.asarray(rows.model, dtype=np.float64)
    if len(gap) and not gap.any():
        return "all answers are of equal length: the win rate itself is the one at equal length"
    if len(gap) == 1:
        return "one prompt alone cannot tell the effect of length from the model's"
    if len(gap) and np.ptp(gap) == 0:
        return "all answers differ by the same length, whose effect cannot be told from the model's"
    if len(gap) and (np.all(rows.preferences == 0) or np.all(rows.preferences == 1)):
        return "one of the two wins every prompt, whatever the lengths: nothing is seen of what length does"
    return ""


def alpaca(rows: Lengths, gamed: Gamed | None, c: float, how: Resampling = USUAL) -> Controlled:
    """AlpacaEval's with this C; an infinite one has no penalty."""
    shape, targets, weights = alpaca_rows(rows, gamed)
    first = len(shape) - len(rows.preferences)

    def fits(counts: np.ndarray) -> np.ndarray:
        each = np.hstack([np.tile(weights[:first], (len(counts), 1)), counts])
        if math.isinf(c):
            return ridged(shape, targets, each, np.full(shape.shape[1], WIDE))
        return lassoed(shape, targets, each, c)

    found = _told(rows, shape[first:], fits, how)
    return Controlled(estimate=found.estimate, coefficients=found.coefficients, c=c, warning=found.warning)


def alpaca_c(rows: Lengths, gamed: Gamed | None) -> tuple[float, np.ndarray]:
    """The C of the best mean over folds, row i being in fold i mod 5; and (folds, Cs) scores."""
    shape, targets, weights = alpaca_rows(rows, gamed)
    fold = np.arange(len(shape)) % FOLDS
    scores = np.zeros((FOLDS, len(CS)))
    for k, c in enumerate(CS):
        found = lassoed(shape, targets, weights * (fold != np.arange(FOLDS)[:, None]), c)
        seen = weights * log_likelihoods(shape, targets, found)
        scores[:, k] = [seen[f, fold == f].mean() for f in range(FOLDS)]
    return CS[int(scores.mean(0).argmax())], scores


def alpaca_rows(rows: Lengths, gamed: Gamed | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Columns, targets and weights: the gamed rows first, in which the third column is 0."""
    columns = _columns(rows)
    if gamed is None:
        return columns, rows.preferences, np.ones(len(columns))
    extra = np.column_stack([np.tanh(gamed.shorter), gamed.difficulty, np.zeros(len(gamed.shorter))])
    if columns.shape[1] != extra.shape[1]:
        raise ValueError("gamed rows have a difficulty; give the prompts' too")
    weights = np.append(np.full(len(extra), REGULARIZE / 2), np.ones(len(columns)))
    return np.vstack([extra, columns]), np.append(gamed.preferences, rows.preferences), weights


def alpaca_error(rows: Lengths, coefficients: Sequence[float]) -> float:
    """Its standard error of the share: of the mean over prompts alone, as if the fit were known."""
    shares = special.expit(_columns(rows)[:, 1:] @ np.asarray(coefficients)[1:])
    return float(shares.std(ddof=1)) / math.sqrt(len(shares))


def shifted(raw: float, value: float) -> str:
    """AlpacaEval's warning: where length control moves a share by more than 10 points and a quarter of the way."""
    low, high = raw - max(0.1, raw / 4), raw + max(0.1, (1 - raw) / 4)
    if low <= value <= high:
        return ""
    return f"length control moves the win rate from {raw:.1%} to {value:.1%}: length decided much of it"


def _one_side(rows: Lengths) -> str:
    """Where hardly any answer is on the other side of equal length, the fit says what nobody has seen."""
    above, below = int((rows.shorter > 0).sum()), int((rows.shorter < 0).sum())
    if min(above, below) >= RARE * len(rows.preferences):
        return ""
    return f"{max(above, below)} of {len(rows.preferences)} answers are on one side of equal length, hardly seen here"


def _told(rows: Lengths, columns: np.ndarray, fits, how: Resampling) -> Controlled:
    def rate(counts: np.ndarray) -> np.ndarray:
        if rows.difficulty is None:
            return special.expit(fits(counts)[:, 1])  # the same for every prompt
        shares = special.expit(fits(counts)[:, 1:] @ columns[:, 1:].T)
        return (counts * shares).sum(1) / counts.sum(1)

    estimate = of_statistic(rate, len(columns), how, "share")
    if estimate.value is None:
        return Controlled(estimate=estimate)
    found = fits(np.ones((1, len(columns))))[0]
    raw, aside = float(np.mean(rows.preferences)), _one_side(rows)
    names = ["length", *(["difficulty"] if rows.difficulty is not None else []), "intercept"]
    return Controlled(
        estimate=estimate, coefficients=dict(zip(names, map(float, found), strict=True)),
        warning="; ".join(text for text in (shifted(raw, estimate.value), aside) if text),
    )  # fmt: skip


def _columns(rows: Lengths) -> np.ndarray:
    """tanh(d), gamma where there is one, and 1."""
    known = [] if rows.difficulty is None else [np.asarray(rows.difficulty, dtype=np.float64)]
    return np.column_stack([np.tanh(rows.shorter), *known, np.ones(len(rows.preferences))])


def _imagined(columns: np.ndarray) -> np.ndarray:
    """A game at equal length on a prompt like the mean of all."""
    return np.append(0.0, columns[:, 1:].mean(0))[None] if len(columns) else np.zeros((1, columns.shape[1]))
