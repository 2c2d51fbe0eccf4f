"""Who wins against whom: a row and a column for each model, coloured by the win rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from align_eval.page.parts import HALF, grouped
from align_eval.results.document import Pair, Results
from align_eval.results.wording import told, value_of
from align_eval.statistics.estimate import Estimate

FEWEST = 3  # models that make a table worth it


@dataclass(frozen=True, kw_only=True)
class Cell:
    words: str
    hint: str
    kind: str  # class names: over, under, even or none; sure where the interval excludes one half
    weight: int = 0  # of the colour, per cent


@dataclass(frozen=True, kw_only=True)
class Matrix:
    judge: str
    models: list[str]
    rows: list[list[Cell]]


def matrices(found: Results) -> list[Matrix]:
    """One for each judge of three models or more, the best model first."""
    made: list[Matrix] = []
    for judge, rows in grouped((r for r in found.sections.pairs if not r.category), lambda r: r.judge):
        rates = _rates(rows)
        models = _order(list(dict.fromkeys(m for pair in rates for m in pair)), rates, found)
        if len(models) >= FEWEST:
            cells = [[_cell(rates.get((a, b)), a == b) for b in models] for a in models]
            made.append(Matrix(judge=judge, models=models, rows=cells))
    return made


def _rates(rows: Sequence[Pair]) -> dict[tuple[str, str], Estimate]:
    """Both ways: b over a is what a over b leaves."""
    rates: dict[tuple[str, str], Estimate] = {}
    for r in rows:
        rates[r.a, r.b] = r.win_rate
        rates.setdefault((r.b, r.a), _turned(r.win_rate))
    return rates


def _turned(found: Estimate) -> Estimate:
    value, low, high = (None if end is None else 1 - end for end in (found.value, found.low, found.high))
    return replace(found, value=value, low=high, high=low)


def _order(models: list[str], rates: dict[tuple[str, str], Estimate], found: Results) -> list[str]:
    """As on the leaderboard; without one, by the mean win rate."""
    ranks = {r.model: r.rank for r in found.sections.leaderboard}

    def mean(model: str) -> float:
        values = [e.value for (a, _), e in rates.items() if a == model and e.value is not None]
        return sum(values) / len(values) if values else 0.0

    return sorted(models, key=lambda m: (ranks.get(m, len(ranks) + 1), -mean(m)))


def _cell(found: Estimate | None, itself: bool) -> Cell:
    if itself:
        return Cell(words="", hint="", kind="itself")
    if found is None or found.value is None:
        return Cell(words="·", hint=told(found) if found else "not compared", kind="none")
    sure = found.low is not None and found.high is not None and (found.low > HALF or found.high < HALF)
    side = "over" if found.value > HALF else "under" if found.value < HALF else "even"
    weight = round(abs(found.value - HALF) * 2 * 60)
    words = value_of(found).removesuffix(" %")
    return Cell(words=words, hint=told(found), kind=f"{side} sure" if sure else side, weight=weight)
