"""Who beats whom: a matrix of probabilities for the completions of a prompt, and what can make one.

`P[a, b]` is the probability that a beats b, NaN where one of them could not be judged. P[a, b] + P[b, a] = 1, so that
1/2 is what a policy earns against itself; whatever makes P is held to that.
"""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np

from align.errors import RunError
from align.rewards.base import Text, text_of
from align.system.coroutines import finished

Link = Literal["logistic", "hard"]
Matrix = np.ndarray  # (G, G) float64: P(row beats column)
EXACT = 1e-6  # by how much P(a, b) + P(b, a) may miss 1
MARKS = "First answer:\n{}\n\nSecond answer:\n{}"


def from_scores(scores: Sequence[float | None], link: Link, scale: float) -> Matrix:
    """By who scores more. Logistic: sigmoid(difference / scale), which is Bradley-Terry's. Hard: 1, 0, 1/2 if equal."""
    found = np.array([math.nan if s is None else s for s in scores], dtype=np.float64)
    gaps = found[:, None] - found
    return _sigmoid(gaps / scale) if link == "logistic" else (np.sign(gaps) + 1) / 2


def from_logits(completions: Sequence[Text], score: Callable[[list[Text]], Sequence[float]], scale: float) -> Matrix:
    """By a model that reads two answers and scores how much better the first is: sigmoid((l_ab - l_ba) / scale)."""
    logits = _of_pairs(completions, lambda pairs: score([two_answers(a, b) for a, b in pairs]), 0.0)
    return _sigmoid((logits - logits.T) / scale)


def from_function(
    name: str, function: Callable[..., Any], prompt: Text, completions: Sequence[Text], *, average: bool
) -> Matrix:
    """By what `function(prompt, a, b)` says of each two, which may be a coroutine.

    It is not asked about equal texts, which are even. `average`: P is (P(a, b) + 1 - P(b, a)) / 2.
    """

    def ask(pairs: Sequence[tuple[Text, Text]]) -> Sequence[float]:
        said = [function(prompt, a, b) for a, b in pairs]
        said = finished(_all(said)) if any(inspect.iscoroutine(s) for s in said) else said
        return [_probability(name, value, *pair) for value, pair in zip(said, pairs, strict=True)]

    found = _of_pairs(completions, ask, 0.5)
    return (found + 1 - found.T) / 2 if average else held(name, found, completions)


def held(name: str, found: Matrix, completions: Sequence[Text]) -> Matrix:
    """The same matrix. RunError, which names the pair, where both orders do not add up."""
    for a, b in zip(*np.nonzero(np.abs(found + found.T - 1) > EXACT), strict=True):
        raise RunError(
            f"reward {name}: {_shown(completions[a])} beats {_shown(completions[b])} with probability "
            f"{found[a, b]:g}, and is beaten with {found[b, a]:g}; both must add up to 1. Make it so, or take the mean "
            "of both orders with settings: {average_orders: true}"
        )
    return found


def win_rates(found: Matrix, opponents: Sequence[bool] = ()) -> list[float | None]:
    """For each completion, how often it beats one of the others; None where it could be compared with none.

    `opponents`: those that stand against the rest, which are compared with them alone, and have no rate themselves.
    """
    others = ~np.isnan(found) & ~np.eye(len(found), dtype=bool)
    if any(opponents):
        against = np.asarray(opponents)
        others &= against & ~against[:, None]
    sums, counts = np.where(others, found, 0.0).sum(1), others.sum(1)
    return [float(s / n) if n else None for s, n in zip(sums, counts, strict=True)]


def two_answers(first: Text, second: Text) -> str:
    """What a pairwise model reads behind the prompt, and is to be trained on."""
    return MARKS.format(text_of(first), text_of(second))


def _of_pairs(
    completions: Sequence[Text], ask: Callable[[list[tuple[Text, Text]]], Sequence[float]], even: float
) -> Matrix:
    """One number for each two different texts, in both orders; `even` for equal ones. Each two are asked about once."""
    texts = [text_of(c) for c in completions]
    first = [texts.index(t) for t in texts]
    wanted = list(_pairs(sorted(set(first))))
    said = ask([(completions[a], completions[b]) for a, b in wanted]) if wanted else []
    known = dict(zip(wanted, said, strict=True))
    return np.array([[known.get((a, b), even) for b in first] for a in first], dtype=np.float64)


def _pairs(places: Sequence[int]) -> Iterator[tuple[int, int]]:
    return ((a, b) for a in places for b in places if a != b)


async def _all(said: Sequence[Any]) -> list[Any]:
    async def one(value: Any) -> Any:
        return await value if inspect.iscoroutine(value) else value

    return list(await asyncio.gather(*map(one, said)))


def _probability(name: str, value: Any, first: Text, second: Text) -> float:
    number = float(value) if hasattr(value, "__float__") and not isinstance(value, str) else math.nan
    if not 0 <= number <= 1:
        raise RunError(
            f"reward {name}: returned {value!r} for {_shown(first)} against {_shown(second)}; expected the "
            "probability that the first is better, a number from 0 to 1"
        )
    return number


def _sigmoid(values: Matrix) -> Matrix:
    """Both orders from one, so that they add up to 1 to the last bit of either."""
    small = np.exp(-np.abs(values)) / (1 + np.exp(-np.abs(values)))
    return np.where(values < 0, small, 1 - small)


def _shown(completion: Text) -> str:
    text = text_of(completion)
    return f"{text[:60]!r}{'...' if len(text) > 60 else ''}"
