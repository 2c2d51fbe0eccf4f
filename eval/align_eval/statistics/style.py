"""How answers look, and Bradley-Terry with that taken out: what a judge's liking for length and Markdown has bought.

Arena-Hard's style control (Li et al., arXiv 2406.11939; its blog of 2024-08-29). With s the strengths of two models and
z how their answers to a prompt differ in style,

    logit P(a beats b) = s_a - s_b + beta . z

    length                  (n_a - n_b) / (n_a + n_b), n the words of an answer
    headers, lists, bold    (d_a - d_b) / (d_a + d_b + 1), d = count / (n + 1), outside of code

each divided by its standard deviation over all games. Departures: words where Arena-Hard counts tokens of one
tokenizer; not centred, so that z = 0 is equal style whatever other models there are (`centred` is their form, where it
is the style of the pool's average game); the prior of `bradley_terry` on strengths, a wide one on beta.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from align_eval.statistics.logistic import ridged
from align_eval.statistics.resampling import CHUNK, Resampling, draws

FEATURES = ("length", "headers", "lists", "bold")
CODE = re.compile(r"```.*?(```|\Z)", re.DOTALL)
MARKS = (
    re.compile(r"^#{1,6}\s", re.MULTILINE),
    re.compile(r"^\s*(?:[-*+]|\d+\.)\s", re.MULTILINE),
    re.compile(r"\*\*[^*\n]+\*\*|__[^_\n]+__"),
)
WIDTH = 5.0  # standard deviation of the prior on beta, in logits
WIDE = 1e6  # of one that only holds a scale


def style_of(text: str) -> tuple[int, ...]:
    """Words; headers, lists and bold parts outside of code."""
    plain = CODE.sub("", text)
    return (len(text.split()), *(len(mark.findall(plain)) for mark in MARKS))


def style_gaps(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """(N, 4) of (N, 4) styles, before they are divided by their spread."""
    a, b = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    words = a[:, :1] + b[:, :1]
    length = np.divide(a[:, :1] - b[:, :1], words, out=np.zeros_like(words), where=words > 0)
    dense, other = a[:, 1:] / (a[:, :1] + 1), b[:, 1:] / (b[:, :1] + 1)
    return np.hstack([length, (dense - other) / (dense + other + 1)])


@dataclass(frozen=True, kw_only=True)
class StyledGames:
    """One row for each prompt and two models."""

    num_models: int
    item: np.ndarray  # (N,) number of the prompt
    first: np.ndarray  # (N,) number of a model
    second: np.ndarray
    earned: np.ndarray  # (N,) share of the first
    gaps: np.ndarray  # (N, K) of style, first less second

    @property
    def spread(self) -> np.ndarray:
        """(K,) 0 where all games are alike in it."""
        found = self.gaps.std(0, ddof=1) if len(self.gaps) > 1 else np.zeros(self.gaps.shape[1])
        return np.where(found > 1e-12, found, 0.0)

    def scaled(self, *, centred: bool) -> np.ndarray:
        """(N, K) in standard deviations; what differs nowhere is 0."""
        gaps = self.gaps - self.gaps.mean(0) * centred
        return np.divide(gaps, self.spread, out=np.zeros_like(gaps), where=self.spread > 0)


@dataclass(frozen=True, kw_only=True)
class StyleFit:
    """Log-strengths of mean 0, and beta in logits per standard deviation; of the data, then of resamples."""

    raw: np.ndarray  # (1 + R, M) without style
    logs: np.ndarray  # (1 + R, M)
    beta: np.ndarray  # (1 + R, K)


def fit_style(games: StyledGames, how: Resampling, *, centred: bool = False) -> StyleFit:
    """Raw and controlled strengths of the same resamples, so that their difference has an interval of its own."""
    style = games.scaled(centred=centred)
    plain, whole = (_design(games, z) for z in (style[:, :0], style))
    num_items = int(games.item.max()) + 1
    raw: list[np.ndarray] = []
    full: list[np.ndarray] = []
    for counts in _blocks(num_items, len(games.item), how):
        weights = np.hstack([counts[:, games.item], np.full((len(counts), games.num_models), 2.0)])
        for found, design in ((raw, plain), (full, whole)):
            found.append(_fitted(design, games, weights, found[0][0] if found else None))
    before, after = np.concatenate(raw), np.concatenate(full)
    size = games.num_models
    return StyleFit(raw=_level(before), logs=_level(after[:, :size]), beta=after[:, size:])


def _blocks(num_items: int, num_rows: int, how: Resampling) -> Iterator[np.ndarray]:
    """The data themselves first; then resamples, few enough at once for their weights to stay small."""
    yield np.ones((1, num_items))
    size = max(1, 8 * CHUNK // num_rows)
    for block in draws(num_items, how) if num_items > 1 else ():
        yield from (block[at : at + size] for at in range(0, len(block), size))


def _design(games: StyledGames, style: np.ndarray) -> np.ndarray:
    """(N + M, M + K): the games, and the prior's: each model won and lost one against strength 0 at equal style."""
    strengths = np.eye(games.num_models)
    rows = np.hstack([strengths[games.first] - strengths[games.second], style])
    return np.vstack([rows, np.hstack([strengths, np.zeros((games.num_models, style.shape[1]))])])


def _fitted(design: np.ndarray, games: StyledGames, weights: np.ndarray, start: np.ndarray | None) -> np.ndarray:
    """From the fit of the data, near which those of resamples are."""
    targets = np.append(games.earned, np.full(games.num_models, 0.5))
    widths = np.append(np.full(games.num_models, WIDE), np.full(design.shape[1] - games.num_models, WIDTH))
    return ridged(design, targets, weights, widths, start)


def _level(logs: np.ndarray) -> np.ndarray:
    return logs - logs.mean(1, keepdims=True)
