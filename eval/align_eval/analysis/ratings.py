"""Bradley-Terry on verdicts, and its bootstrap over prompts: who may be compared with whom, strengths, tied models."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from align.errors import UserError
from align.judges.base import Verdict
from align_eval.analysis.games import PLAIN
from align_eval.statistics import bradley_terry
from align_eval.statistics.many_fits import fit_many
from align_eval.statistics.resampling import Resampling, draws, tails


@dataclass(frozen=True, kw_only=True)
class Games:
    """One row for each prompt and two models: what they earned of it."""

    models: list[str]
    items: list[str]
    item: np.ndarray  # (N,)
    first: np.ndarray  # (N,) the smaller of two places in `models`
    second: np.ndarray
    won: np.ndarray  # (N,) share of the games that the first won
    tied: np.ndarray
    counts: np.ndarray  # (N,) verdicts that it is made of
    plain: bool  # no probabilities

    @staticmethod
    def of(verdicts: Sequence[Verdict], strong: float = 1.0) -> Games:
        """UserError where fewer than two models have a verdict with a score."""
        known = [v for v in verdicts if v.score is not None]
        models = list(dict.fromkeys(name for v in known for name in v.models))
        if len(models) < 2:
            there = ", ".join(dict.fromkeys(name for v in verdicts for name in v.models)) or "no model"
            told = f"of {len(verdicts):,} on {there}, {len(known):,} have a score" if verdicts else "there is none"
            raise UserError(f"a leaderboard needs verdicts with a score on two models or more; {told}")
        place = {name: i for i, name in enumerate(models)}
        rows: dict[tuple[str, int, int], list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0, 0.0])
        for verdict in known:
            a, b = place[verdict.models[0]], place[verdict.models[1]]
            score, weight = float(verdict.score or 0.0), strong if verdict.strong else 1.0
            row = rows[(verdict.item, min(a, b), max(a, b))]
            tie = score == 0.5
            row[0] += weight * (not tie) * (score if a < b else 1 - score)
            row[1] += weight * tie
            row[2] += weight
            row[3] += 1
        items = list(dict.fromkeys(key[0] for key in rows))
        number = {item: i for i, item in enumerate(items)}
        table = np.array(list(rows.values()))
        return Games(
            models=models, items=items, item=np.array([number[k[0]] for k in rows]),
            first=np.array([k[1] for k in rows]), second=np.array([k[2] for k in rows]),
            won=table[:, 0] / table[:, 2], tied=table[:, 1] / table[:, 2], counts=table[:, 3],
            plain=all(v.score in PLAIN for v in known),
        )  # fmt: skip

    @cached_property
    def met(self) -> np.ndarray:
        """(M, M) prompts on which two models met."""
        counts = np.zeros((len(self.models), len(self.models)), dtype=np.int64)
        np.add.at(counts, (self.first, self.second), 1)
        return counts + counts.T

    @property
    def verdicts(self) -> int:
        return int(self.counts.sum())

    def verdicts_of(self, i: int) -> int:
        return int(self.counts[(self.first == i) | (self.second == i)].sum())

    def tails(self, level: float) -> tuple[float, float]:
        return tails(len(self.items), level)

    def per_prompt(self, i: int) -> np.ndarray:
        """What a model earned of each prompt that it was judged on, over its opponents."""
        mine = (self.first == i) | (self.second == i)
        earned = self.won + self.tied / 2
        of_prompts = np.where(self.first == i, earned, 1 - earned)[mine]
        sums = np.bincount(self.item[mine], of_prompts, len(self.items))
        counts = np.bincount(self.item[mine], minlength=len(self.items))
        return sums[counts > 0] / counts[counts > 0]

    @cached_property
    def cells(self) -> sparse.csr_matrix:
        """(items, M M + M M) wins of row over column, and ties, both flat, of each prompt."""
        size = len(self.models)
        over, under = self.first * size + self.second, self.second * size + self.first
        values = (self.won, 1 - self.won - self.tied, self.tied, self.tied)
        columns = (over, under, over + size * size, under + size * size)
        shape = (len(self.items), 2 * size * size)
        rows = np.tile(self.item, 4)
        return sparse.csr_matrix((np.concatenate(values), (rows, np.concatenate(columns))), shape=shape)

    def tables(self, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(R, M, M) wins and ties, of (R, items) how often each prompt counts."""
        size = len(self.models)
        flat = np.asarray((self.cells.T @ counts.T).T)
        return flat[:, : size * size].reshape(-1, size, size), flat[:, size * size :].reshape(-1, size, size)

    def warnings(self, prior: bool) -> Iterator[str]:
        """Who cannot be compared (UserError), and who never lost or never won."""
        wins, ties = (table[0] for table in self.tables(np.ones((1, len(self.items)))))
        halves = wins + ties / 2
        apart = bradley_terry.groups(halves, strong=False)
        if len(apart) > 1:
            told = "; ".join(", ".join(self.models[i] for i in members) for members in apart)
            raise UserError(
                f"models that were never compared, not even over others, have no common scale: {told}. Judge pairs of "
                "two groups, or make a leaderboard of each"
            )
        for who, what in ((bradley_terry.never_lost, "never lost"), (bradley_terry.never_won, "never won")):
            if found := [self.models[i] for i in who(halves)]:
                side, who_is = "ahead" if what == "never lost" else "behind", "they are" if len(found) > 1 else "it is"
                yield f"{', '.join(found)} {what} a game or tied one: the prior alone says how far {side} {who_is}"
        together = bradley_terry.groups(halves, strong=True)
        if len(together) > 1 and not prior:
            told = "; ".join(", ".join(self.models[i] for i in members) for members in together)
            raise UserError(
                f"without the prior there are no strengths: no model of one of these groups has beaten one of another, "
                f"or the other way round: {told}"
            )
        met = np.unique(np.count_nonzero(halves + halves.T, axis=1))
        if len(met) > 1:
            yield "not every model met every other: win rates are against different opponents; ratings allow for that"


@dataclass(frozen=True, kw_only=True)
class Ratings:
    """Log-strengths, each set centred to mean 0."""

    logs: np.ndarray  # (M,)
    resampled: np.ndarray  # (R, M)
    met: np.ndarray  # (M, M) prompts on which two models met
    nu: float
    level: float

    @cached_property
    def gaps(self) -> np.ndarray:
        """(R, M, M) how far each resample's differences are from those of the data."""
        return (
            self.resampled[:, :, None] - self.resampled[:, None, :] - (self.logs[:, None] - self.logs)
        )

    @cached_property
    def _reach(self) -> tuple[np.ndarray, float]:
        """(M, M) standard errors of differences, and how many of them the largest of all reaches by chance."""
        errors = self.gaps.std(0, ddof=1)
        errors[errors < 1e-12] = 0.0  # an anchor to itself, or what no resample changes
        reach = np.divide(np.abs(self.gaps), errors, out=np.zeros_like(self.gaps), where=errors > 0)
        return errors, float(np.quantile(reach.max((1, 2)), self.level))

    def tied_with(self, i: int) -> list[int]:
        """One prompt tells nobody apart. Where no resample changes a difference, every prompt says the same: by the
        sign test that is no chance from six prompts on, at 95 %."""
        if len(self.resampled) < 2:
            return [j for j in range(len(self.logs)) if j != i]
        errors, reach = self._reach
        few = (errors[i] == 0) & (2.0 ** (1.0 - self.met[i]) > 1 - self.level)
        within = few | (np.abs(self.logs - self.logs[i]) <= reach * errors[i] + 1e-9)
        return [int(j) for j in np.flatnonzero(within) if j != i]


def fitted(games: Games, how: Resampling, *, davidson: bool = False, prior: bool = True) -> Ratings:
    """The whole data by Newman's iteration; resamples by Newton's, always with the prior: many lack a maximum."""
    list(games.warnings(prior))  # refuses what has no common scale
    wins, ties = (table[0] for table in games.tables(np.ones((1, len(games.items)))))
    fit = bradley_terry.fit_davidson(wins, ties, prior=prior) if davidson else bradley_terry.fit(
        wins + ties / 2, prior=prior
    )  # fmt: skip
    found: list[np.ndarray] = []
    for counts in draws(len(games.items), how) if len(games.items) > 1 else ():
        each, even = games.tables(counts)
        tied = davidson and bool(ties.any())
        found.append(fit_many(each if tied else each + even / 2, even if tied else None, fit.logs, fit.nu))
    logs = np.concatenate(found) if found else np.zeros((0, len(games.models)))
    return Ratings(
        logs=fit.logs - fit.logs.mean(), resampled=logs - logs.mean(1, keepdims=True), met=games.met, nu=fit.nu,
        level=how.level,
    )
