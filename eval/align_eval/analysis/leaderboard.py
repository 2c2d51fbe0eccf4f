"""Who is best, and who cannot be told from the best: Bradley-Terry ratings of all models that one judge compared.

A prompt's games of two models are averaged first, so that it is one game for them however often it was judged.
Ratings are 400 / ln 10 times the log-strength; their mean is 1000, or anchors have the ratings that they are given. The
interval comes from drawing prompts again and fitting anew. Models are tied where their difference is within what the
largest of all differences, in standard errors, reaches by chance: 95 times in 100 no two are told apart wrongly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np

from align.errors import UserError, did_you_mean
from align.judges.base import Verdict
from align_eval.analysis.evaluation import Evaluation, Source, evaluation_of
from align_eval.analysis.games import by_pair, flagged, missing_verdicts, one_order, rate
from align_eval.analysis.judges import agreements, judge_rows
from align_eval.analysis.pairs import PairSettings, pairs
from align_eval.analysis.ratings import Games, Ratings, fitted
from align_eval.results.document import Agreement, Failure, JudgeRow, Pair, Ranked, Sections
from align_eval.results.families import adjusted
from align_eval.statistics.estimate import Estimate
from align_eval.statistics.resampling import USUAL, Resampling, mean

Ties = Literal["half", "davidson"]
SHOWN = 5  # remarks on pairs


@dataclass(frozen=True, kw_only=True)
class BoardSettings:
    how: Resampling = USUAL
    ties: Ties = "half"  # as half a win, or by Davidson's model
    anchors: Mapping[str, float] = field(default_factory=dict)  # ratings that models are given
    strong: float = 1.0  # how often a verdict of "much better" counts
    prior: bool = True  # without it there is no maximum where somebody never lost

    def __post_init__(self):
        if self.ties not in get_args(Ties):
            raise UserError(f"ties: {self.ties!r} is none of {', '.join(get_args(Ties))}")


@dataclass(frozen=True, kw_only=True)
class Leaderboard:
    judge: str
    rows: list[Ranked]
    best: tuple[str, ...]  # who leads, and all who cannot be told from that model
    pairs: list[Pair]  # every two that met
    judges: list[JudgeRow]  # all of them, and their agreement
    agreement: list[Agreement]
    nu: float  # of ties, in Davidson's model
    warnings: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    def sections(self) -> Sections:
        return Sections(
            leaderboard=self.rows, pairs=self.pairs, judges=self.judges, agreement=self.agreement
        )

    @property
    def models(self) -> list[str]:
        return [row.model for row in self.rows]


USUALLY = BoardSettings()


def leaderboard(source: Source, judge: str = "", settings: BoardSettings = USUALLY) -> Leaderboard:
    """Of one judge's verdicts, or its grades where it compares no two. UserError where nothing can be ranked."""
    evaluation = evaluation_of(source)
    name, verdicts = games_of(evaluation, judge)
    games = Games.of(verdicts, settings.strong)
    ratings = fitted(games, settings.how, davidson=settings.ties == "davidson", prior=settings.prior)
    warnings = [*evaluation.warnings, *games.warnings(settings.prior)]
    values = _elo(ratings, games.models, settings.anchors)
    order = sorted(range(len(games.models)), key=lambda i: -values[0][i])
    rows = [_ranked(i, games, values, ratings, evaluation, settings.how) for i in order]
    rows = [replace(row, rank=_rank(row, rows)) for row in rows]
    met = _pairs(evaluation, verdicts, [row.model for row in rows], settings)
    leader = rows[0]
    return Leaderboard(
        judge=name, rows=rows, best=(leader.model, *leader.tied_with), pairs=adjusted([p for p, _ in met]),
        judges=judge_rows(evaluation, settings.how), agreement=agreements(evaluation, settings.how), nu=ratings.nu,
        warnings=[*warnings, *one_order(verdicts), *flagged(verdicts), *_few([text for _, t in met for text in t])],
        failures=[*missing_verdicts([v for v in evaluation.verdicts if v.judge == name]), *evaluation.unmade],
    )  # fmt: skip


def _few(told: Sequence[str]) -> list[str]:
    """The first ones, and how many more there are: a table of many models would say the same of hundreds of pairs."""
    return [*told[:SHOWN], *([f"and {len(told) - SHOWN} more such remarks on pairs"] if len(told) > SHOWN else [])]


def games_of(source: Evaluation, judge: str) -> tuple[str, list[Verdict]]:
    """The judge's name and its verdicts of two models; from grades of single answers, the higher one wins."""
    grading = list(dict.fromkeys(v.judge for v in source.verdicts if len(v.models) == 1))
    known = source.judges or grading
    if judge and judge not in (*source.judges, *grading):
        there = ", ".join(dict.fromkeys([*source.judges, *grading])) or "none"
        raise UserError(f"{source.name}: no judge {judge!r}; there are {there}.{did_you_mean(judge, known)}")
    if not known:
        raise UserError(f"{source.name}: has no verdicts; make them with align-eval judge, or import them")
    if not judge and len(known) > 1:
        raise UserError(f"{source.name}: has verdicts of several judges; name one with --judge: {', '.join(known)}")
    name = judge or known[0]
    if name in source.judges:
        return name, [v for v in source.pairwise if v.judge == name]
    return name, from_grades([v for v in source.verdicts if v.judge == name and len(v.models) == 1])


def from_grades(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Every two models that were graded on an item: the higher grade wins, equal ones tie. Repeats meet their like.

    A missing grade is a missing verdict against each other model.
    """
    graded: dict[tuple[str, int], list[Verdict]] = {}
    for verdict in verdicts:
        graded.setdefault((verdict.item, verdict.repeat), []).append(verdict)
    found: list[Verdict] = []
    for (item, repeat), rows in graded.items():
        for i, one in enumerate(rows):
            for other in rows[i + 1 :]:
                known = one.score is not None and other.score is not None
                score = (float(np.sign(one.score - other.score)) + 1) / 2 if known else None  # type: ignore[operator]
                found.append(
                    Verdict(
                        item=item, models=(one.models[0], other.models[0]), judge=one.judge, repeat=repeat, score=score,
                        why="" if known else one.why or other.why,
                    )
                )  # fmt: skip
    return found


def _pairs(
    source: Evaluation, verdicts: Sequence[Verdict], models: Sequence[str], settings: BoardSettings
) -> list[tuple[Pair, list[str]]]:
    """Each two that met, the one that is rated higher first; without categories."""
    found = by_pair(verdicts)
    how = PairSettings(how=settings.how, strong=settings.strong, categories=False)
    met: list[tuple[Pair, list[str]]] = []
    for i, a in enumerate(models):
        for b in models[i + 1 :]:
            if said := found.get(frozenset((a, b))):
                rows, warnings = pairs(source, said, a, b, how)
                met += [(row, warnings) for row in rows]
    return met


def _elo(
    ratings: Ratings, models: Sequence[str], anchors: Mapping[str, float]
) -> tuple[np.ndarray, np.ndarray]:
    """(M,) and (R, M) ratings. Several anchors are met in their mean."""
    for name in anchors:
        if name not in models:
            there = ", ".join(models)
            raise UserError(f"anchor {name!r}: no such model; there are {there}.{did_you_mean(name, models)}")
    factor = 400 / math.log(10)
    places = [models.index(name) for name in anchors] or list(range(len(models)))
    goal = float(np.mean(list(anchors.values()))) if anchors else 1000.0

    def scaled(logs: np.ndarray) -> np.ndarray:
        return factor * (logs - logs[..., places].mean(-1, keepdims=True)) + goal

    return scaled(ratings.logs), scaled(ratings.resampled)


def _ranked(
    i: int, games: Games, values: tuple[np.ndarray, np.ndarray], ratings: Ratings, source: Evaluation, how: Resampling
) -> Ranked:
    model = games.models[i]
    lengths = np.array(list(source.lengths.get(model, {}).values()))
    won = games.per_prompt(i)
    tied = [games.models[j] for j in ratings.tied_with(i)]
    return Ranked(
        rank=0, model=model, tied_with=tied, rating=_rating(float(values[0][i]), values[1][:, i], games, how),
        win_rate=rate(won, games.verdicts_of(i), how, plain=games.plain),
        mean_length=mean(lengths, how, "characters") if len(lengths) else None, n=games.verdicts_of(i),
    )  # fmt: skip


def _rating(value: float, resampled: np.ndarray, games: Games, how: Resampling) -> Estimate:
    bare = Estimate(value=value, level=how.level, n=int(games.verdicts), clusters=len(games.items), unit="Elo")
    if len(games.items) < 2:
        return replace(bare, why="one prompt alone has no interval")
    if not len(resampled) or float(np.ptp(resampled)) < 1e-9:
        return replace(bare, why="the same in every resample: an anchor, or nobody ever differed")
    low, high = np.percentile(resampled, games.tails(how.level))
    return replace(bare, low=float(low), high=float(high), method=how.told())


def _rank(row: Ranked, rows: Sequence[Ranked]) -> int:
    """One more than the models with a higher rating; equal ratings share it."""
    mine = row.rating.value or 0.0
    return 1 + sum((other.rating.value or 0.0) > mine + 1e-9 for other in rows)
