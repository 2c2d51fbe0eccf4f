"""Ratings at equal style beside the raw ones, and what each feature of style is worth to a judge."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from align.errors import UserError
from align_eval.analysis.evaluation import Evaluation, Source, evaluation_of
from align_eval.analysis.leaderboard import games_of
from align_eval.analysis.ratings import Games
from align_eval.results.document import Effect, Sections, Styled
from align_eval.statistics.estimate import Estimate
from align_eval.statistics.resampling import USUAL, Resampling, interval
from align_eval.statistics.style import FEATURES, StyledGames, StyleFit, fit_style, style_gaps, style_of

CENTRED = "ratings are at the average style of the games of this pool, not at equal style"
ELO = 400 / math.log(10)


@dataclass(frozen=True, kw_only=True)
class StyleBoard:
    judge: str
    rows: list[Styled]  # the best at equal style first
    effects: list[Effect]
    warnings: list[str] = field(default_factory=list)

    def sections(self) -> Sections:
        return Sections(styles=self.rows, effects=self.effects)

    @property
    def models(self) -> list[str]:
        return [row.model for row in self.rows]


def style_board(source: Source, judge: str = "", how: Resampling = USUAL, *, centred: bool = False) -> StyleBoard:
    """Of one judge's verdicts. UserError where there are none, or no game has both answers."""
    evaluation = evaluation_of(source)
    name, verdicts = games_of(evaluation, judge)
    games = Games.of(verdicts)
    told = list(games.warnings(prior=True))  # refuses what has no common scale
    styled, left_out = _styled(evaluation, games)
    fit = fit_style(styled, how, centred=centred)
    num = len(np.unique(styled.item))
    rows = [_row(games.models[i], name, fit, i, (num, len(styled.item), how)) for i in range(len(games.models))]
    alike = ", ".join(f for f, spread in zip(FEATURES, styled.spread, strict=True) if not spread)
    told += [*left_out, *([CENTRED] if centred else [])]
    told += [f"the answers of no game differ in {alike}"] if alike else []
    return StyleBoard(
        judge=name, rows=sorted(rows, key=lambda row: -(row.controlled.value or 0.0)),
        effects=list(_effects(name, fit, styled, (num, len(styled.item), how))),
        warnings=[*evaluation.warnings, *told],
    )  # fmt: skip


def _styled(source: Evaluation, games: Games) -> tuple[StyledGames, list[str]]:
    """Games whose two answers are both here; of several samples the mean counts. UserError where a model has none."""
    found: dict[tuple[str, str], list[tuple[int, ...]]] = defaultdict(list)
    for answer in source.answers:
        found[answer.model, answer.item].append(style_of(answer.text))
    means = {key: np.mean(some, axis=0) for key, some in found.items()}
    keys = [
        ((games.models[a], games.items[i]), (games.models[b], games.items[i]))
        for i, a, b in zip(games.item, games.first, games.second, strict=True)
    ]
    kept = np.array([one in means and other in means for one, other in keys])
    lost = sorted({*games.models} - {key[0] for pair, k in zip(keys, kept, strict=True) if k for key in pair})
    if lost:
        raise UserError(f"{source.name}: no answers of {', '.join(lost)} to judged prompts: their style is not known")
    ours, theirs = (np.array([means[pair[side]] for pair, k in zip(keys, kept, strict=True) if k]) for side in (0, 1))
    number = np.unique(games.item[kept], return_inverse=True)[1]
    earned = games.won + games.tied / 2
    styled = StyledGames(
        num_models=len(games.models), item=number, first=games.first[kept], second=games.second[kept],
        earned=earned[kept], gaps=style_gaps(ours, theirs),
    )  # fmt: skip
    gone = int((~kept).sum())
    return styled, [f"{gone} of {len(kept)} games lack an answer and are in no rating here"] if gone else []


Rests = tuple[int, int, Resampling]  # prompts, games


def _row(model: str, judge: str, fit: StyleFit, i: int, rests: Rests) -> Styled:
    raw, logs = 1000 + ELO * fit.raw[:, i], 1000 + ELO * fit.logs[:, i]
    return Styled(
        model=model, judge=judge, rating=_told(raw, rests), controlled=_told(logs, rests),
        moved=_told(logs - raw, rests),
    )  # fmt: skip


def _effects(judge: str, fit: StyleFit, games: StyledGames, rests: Rests) -> Iterator[Effect]:
    for k, feature in enumerate(FEATURES):
        found = _told(ELO * fit.beta[:, k], rests)
        if not games.spread[k]:
            why = "no two answers of a game differ in it"
            found = replace(found, value=None, low=None, high=None, method="", why=why)
        yield Effect(judge=judge, feature=feature, effect=found)


def _told(values: np.ndarray, rests: Rests) -> Estimate:
    """The first is that of the data, the others of resamples."""
    prompts, games, how = rests
    value, resampled = float(values[0]), values[1:]
    bare = Estimate(value=value, level=how.level, n=games, clusters=prompts, unit="Elo")
    if not len(resampled):
        return replace(bare, why="one prompt alone has no interval")
    if float(np.ptp(resampled)) < 1e-9:
        return replace(bare, why="the same in every resample")
    low, high = interval(resampled, prompts, how.level)
    return replace(bare, low=low, high=high, method=how.told())
