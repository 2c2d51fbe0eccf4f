"""From verdicts of two models to one number for each prompt, and to who beat whom.

A prompt's games (both orders, repeats) are averaged first: it weighs the same however often it was judged.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from align.judges.base import Verdict
from align_eval.results.document import Failure
from align_eval.statistics.estimate import Estimate
from align_eval.statistics.resampling import Resampling, mean
from align_eval.statistics.shares import share

FEW = 2  # games of a prompt: both orders
PLAIN = (0.0, 0.5, 1.0)  # what a judge says that gives no probabilities


@dataclass(frozen=True, kw_only=True)
class Record:
    """How one model fared against another with one judge, prompt by prompt; shares are of `a`."""

    a: str
    b: str
    items: tuple[str, ...]
    values: np.ndarray  # (n,) share of the prompt that a earned, a tie one half
    won: np.ndarray  # (n,) share of its games that a won
    tied: np.ndarray  # (n,)
    games: int
    missing: int  # verdicts without a score
    plain: bool  # every game was won, tied or lost: no probabilities

    @cached_property
    def lost(self) -> np.ndarray:
        return 1 - self.won - self.tied

    def of(self, items: Iterable[str]) -> Record:
        """On some prompts alone; missing verdicts are not counted again."""
        wanted = set(items)
        kept = np.array([item in wanted for item in self.items], dtype=bool)
        return replace(
            self, items=tuple(i for i in self.items if i in wanted), values=self.values[kept], won=self.won[kept],
            tied=self.tied[kept], games=int(kept.sum()), missing=0,
        )  # fmt: skip

    def win_rate(self, how: Resampling) -> Estimate:
        return rate(self.values, self.games, how, plain=self.plain)


def rate(values: np.ndarray, games: int, how: Resampling, *, plain: bool = True) -> Estimate:
    """The mean of prompts' shares. Where a prompt has one or two games, won, tied or lost, the interval is that of a
    share; means of many games, and probabilities, spread less than that allows for, and are bootstrapped."""
    few = games <= FEW * len(values)
    found = share(values, how.level) if plain and few else mean(values, how, "share")
    if found.low is None and plain and len(values) > 1:
        found = share(values, how.level)  # all prompts alike, of which a bootstrap sees nothing
    return replace(found, n=games)


def share_of(verdict: Verdict, model: str) -> float | None:
    """What the verdict gives to one of its two models."""
    if verdict.score is None:
        return None
    return verdict.score if verdict.models[0] == model else 1 - verdict.score


def record(verdicts: Sequence[Verdict], a: str, b: str, strong: float = 1.0) -> Record:
    """Of the verdicts on these two models, of one judge. A strong verdict counts `strong` times in its prompt."""
    games: dict[str, list[Verdict]] = defaultdict(list)
    missing = 0
    for verdict in verdicts:
        if verdict.score is None:
            missing += 1
        else:
            games[verdict.item].append(verdict)
    rows = [_prompt(found, a, strong) for found in games.values()]
    table = np.array(rows, dtype=np.float64).reshape(-1, 3)
    return Record(
        a=a, b=b, items=tuple(games), values=table[:, 0], won=table[:, 1], tied=table[:, 2],
        games=sum(map(len, games.values())), missing=missing,
        plain=all(v.score in PLAIN for found in games.values() for v in found),
    )  # fmt: skip


def _prompt(games: Sequence[Verdict], a: str, strong: float) -> tuple[float, float, float]:
    """Shares of one prompt: earned, won, tied. A probability counts as so much won and the rest lost."""
    weights = [strong if v.strong else 1.0 for v in games]
    shares = [share_of(v, a) or 0.0 for v in games]
    total = sum(weights)
    tied = sum(w for w, s in zip(weights, shares, strict=True) if s == 0.5) / total
    earned = sum(w * s for w, s in zip(weights, shares, strict=True)) / total
    return earned, earned - tied / 2, tied


def by_pair(verdicts: Sequence[Verdict]) -> dict[frozenset[str], list[Verdict]]:
    found: dict[frozenset[str], list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        found[frozenset(verdict.models)].append(verdict)
    return found


def missing_verdicts(verdicts: Sequence[Verdict]) -> list[Failure]:
    """Those without a score, counted by judge, models and reason."""
    return grouped(
        (("verdict", " against ".join(v.models), v.judge, v.why), v.item) for v in verdicts if v.score is None
    )


def is_shown(verdict: Verdict) -> bool:
    """Whether it is known who was shown first."""
    return bool(verdict.order) and verdict.columns.get("ordered") is not False


def asked(verdict: Verdict) -> tuple[Any, ...]:
    """The question without its repeat: the same when it is asked again. Another turn of a conversation is another."""
    return verdict.item, frozenset(verdict.models), verdict.order, verdict.columns.get("turn")


def one_order(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """A warning for each judge that saw prompts in one order only."""
    seen: dict[str, dict[tuple[str, frozenset[str]], set[str]]] = defaultdict(lambda: defaultdict(set))
    for verdict in verdicts:
        if verdict.score is not None and is_shown(verdict):
            seen[verdict.judge][(verdict.item, frozenset(verdict.models))].add(verdict.order)
    for judge, found in seen.items():
        if alone := sum(len(orders) == 1 for orders in found.values()):
            yield (
                f"judge {judge}: {alone} of {len(found)} pairs of answers were judged in one order only; a liking for "
                "the first answer does not cancel there"
            )


def flagged(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """What is worth knowing of verdicts that count, such as one that contradicts its own explanation; by judge."""
    seen: dict[tuple[str, str], int] = defaultdict(int)
    totals: dict[str, int] = defaultdict(int)
    for verdict in verdicts:
        totals[verdict.judge] += 1
        for flag in dict.fromkeys(map(str, verdict.columns.get("flags", ()))):
            seen[verdict.judge, flag] += 1
    yield from (f"judge {judge}: {n} of {totals[judge]} verdicts: {flag}" for (judge, flag), n in seen.items())


Kind = tuple[str, str, str, str]  # what, model, judge, why


def grouped(found: Iterable[tuple[Kind, str]]) -> list[Failure]:
    """One line for each kind of failure; the item is named where it is one alone."""
    items: dict[Kind, list[str]] = defaultdict(list)
    for kind, item in found:
        items[kind].append(item)
    return [
        Failure(what=what, model=model, judge=judge, why=why, count=len(at), item=at[0] if len(at) == 1 else "")
        for (what, model, judge, why), at in items.items()
    ]


def per_item(values: Iterable[tuple[str, float]], unite: Callable[[Sequence[float]], float]) -> dict[str, float]:
    """One number for each item, out of several."""
    found: dict[str, list[float]] = defaultdict(list)
    for item, value in values:
        found[item].append(value)
    return {item: unite(numbers) for item, numbers in found.items()}
