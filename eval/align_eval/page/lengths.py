"""Whether longer answers win: a pair's win rate among prompts of about the same difference in length.

Prompts are put in the order of how much longer the first model's answer is, and cut into groups of one size; a point is
a group's mean difference and win rate, each with its interval.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np

from align.judges.base import Verdict
from align.report.parts.figures import Figure
from align_eval.analysis.evaluation import Evaluation
from align_eval.analysis.games import by_pair, record
from align_eval.page.parts import HALF, grouped
from align_eval.page.scatter import Cloud, Point, Scatter, scatter
from align_eval.results.document import Pair
from align_eval.results.wording import how
from align_eval.statistics.resampling import USUAL, mean

GROUPS, FEWEST = 8, 10  # groups, and prompts in one
SHOWN = 6  # pairs


def by_length(rows: Sequence[Pair], evaluation: Evaluation) -> tuple[list[Figure], list[str]]:
    """A drawing for each of the first pairs whose answers are there, and what their intervals are."""
    found = ((row, _known(row, said, evaluation)) for row, said in _judged(rows, evaluation))
    groups = list(islice(((row, points) for row, points in found if len(points) > 1), SHOWN))
    methods = dict.fromkeys(how(e) for _, points in groups for p in points for e in (p.x, p.y) if e.method)
    return [figure for row, points in groups for figure in _drawn(row, points)], list(methods)


def _judged(rows: Sequence[Pair], evaluation: Evaluation) -> Iterator[tuple[Pair, list[Verdict]]]:
    """Each pair with its judge's verdicts, whose answers are known at all."""
    said = {
        judge: by_pair(verdicts) for judge, verdicts in grouped(evaluation.pairwise, lambda verdict: verdict.judge)
    }
    for row in rows:
        if not row.category and row.a in evaluation.lengths and row.b in evaluation.lengths:
            yield row, said.get(row.judge, {}).get(frozenset((row.a, row.b)), [])


def _known(row: Pair, verdicts: Sequence[Verdict], evaluation: Evaluation) -> list[Point]:
    ours, theirs = (evaluation.lengths.get(name, {}) for name in (row.a, row.b))
    games = record(verdicts, row.a, row.b)
    known = [(ours[i] - theirs[i], value) for i, value in zip(games.items, games.values, strict=True)
             if i in ours and i in theirs]  # fmt: skip
    return list(_points(np.array(sorted(known)).reshape(-1, 2)))


def _drawn(row: Pair, points: Sequence[Point]) -> list[Figure]:
    spec = Scatter(
        title=f"{row.a} over {row.b}" + (f", {row.judge}" if row.judge else ""),
        across="characters that the first is longer by",
        up="win rate",
        clouds=[Cloud(label="prompts", points=points)],
        level=HALF,
    )
    return scatter(spec)


def _points(rows: np.ndarray) -> Iterator[Point]:
    """(prompts, 2): differences in length, in their order, and what the first model earned."""
    number = min(GROUPS, len(rows) // FEWEST)
    for part in np.array_split(rows, number) if number else ():
        gap, rate = mean(part[:, 0], USUAL, "characters"), mean(part[:, 1], USUAL, "share")
        yield Point(x=gap, y=rate, name=f"{len(part)} prompts")
