"""What a judge said of two models: win rates, tests, what could have been seen, the judge's own noise."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from align.judges.base import Verdict
from align_eval.analysis.evaluation import Evaluation
from align_eval.analysis.games import Record, asked, record, share_of
from align_eval.results.document import Pair
from align_eval.statistics import tests
from align_eval.statistics.estimate import Estimate
from align_eval.statistics.length_control import Controlled, Lengths, controlled
from align_eval.statistics.resampling import USUAL, Resampling, of_statistic
from align_eval.statistics.shares import z_of


@dataclass(frozen=True, kw_only=True)
class PairSettings:
    how: Resampling = USUAL
    strong: float = 1.0  # how often a verdict of "much better" counts; 3 in Arena-Hard
    categories: bool = True  # also each category alone
    length_control: bool = True


PLAIN = PairSettings()


def pairs(
    source: Evaluation, verdicts: Sequence[Verdict], a: str, b: str, settings: PairSettings = PLAIN
) -> tuple[list[Pair], list[str]]:
    """A row for all prompts and one for each category, from one judge's verdicts on the two; and warnings."""
    whole = record(verdicts, a, b, settings.strong)
    judge = verdicts[0].judge if verdicts else ""
    lengths, told = _at_equal_length(source, whole, settings) if settings.length_control else (None, [])
    rows = [
        replace(
            _row(whole, judge, settings.how),
            lc_win_rate=lengths.estimate if lengths else None,
            noise_floor=noise_floor(verdicts, a, settings.how),
        )
    ]
    warnings = [f"{a} against {b}, judge {judge}: {text}" for text in told]
    if settings.categories:
        groups = source.by_category(whole.items)
        rows += [_row(whole.of(items), judge, settings.how, category) for category, items in groups]
    return rows, warnings


def _row(found: Record, judge: str, how: Resampling, category: str = "") -> Pair:
    gaps = found.values - 0.5
    wins, losses = int((gaps > 0).sum()), int((gaps < 0).sum())
    return Pair(
        a=found.a, b=found.b, judge=judge, category=category, wins=float(found.won.sum()),
        ties=float(found.tied.sum()), losses=float(found.lost.sum()), missing=found.missing,
        win_rate=found.win_rate(how), detectable=tests.detectable(gaps, how.level),
        tests={"sign": tests.sign_test(wins, losses), "permutation": tests.permutation(gaps, seed=how.seed)}
        if len(gaps) else {},
    )  # fmt: skip


def _at_equal_length(
    source: Evaluation, whole: Record, settings: PairSettings
) -> tuple[Controlled | None, list[str]]:
    """None where no answers are here. Joined by item; prompts without both lengths are left out, and told."""
    ours, theirs = source.lengths.get(whole.a, {}), source.lengths.get(whole.b, {})
    both = [i for i, item in enumerate(whole.items) if item in ours and item in theirs]
    if not both:
        return None, []
    items = [whole.items[i] for i in both]
    found = controlled(
        Lengths(
            preferences=whole.values[both],
            model=np.array([ours[item] for item in items]),
            baseline=np.array([theirs[item] for item in items]),
        ),
        settings.how,
    )
    left_out = len(whole.items) - len(both)
    told = [f"{left_out} prompts without both answers are not in the length-controlled rate"] if left_out else []
    return found, [*told, *([found.warning] if found.warning else [])]


def noise_floor(verdicts: Sequence[Verdict], a: str, how: Resampling) -> Estimate | None:
    """How far two judgings of these prompts come out apart, 95 times in 100, by nothing but the judge.

    From prompts whose games were judged again: one judging's variance there, its orders averaged. None where nothing
    was judged twice.
    """
    again: dict[tuple[Any, ...], list[float]] = defaultdict(list)
    for verdict in verdicts:
        value = share_of(verdict, a)
        if value is not None:
            again[asked(verdict)].append(value)
    spread: dict[str, list[float]] = defaultdict(list)
    orders: dict[str, int] = defaultdict(int)
    for (item, *_), values in again.items():
        orders[item] += 1
        if len(values) > 1:
            spread[item].append(float(np.var(values, ddof=1)))
    if not spread:
        return None
    variances = np.array([float(np.mean(v)) / orders[item] for item, v in spread.items()])
    prompts = len(orders)

    def reach(counts: np.ndarray) -> np.ndarray:
        return z_of(how.level) * np.sqrt(2 * (counts @ variances) / counts.sum(1) / prompts)

    if not variances.any():
        why = "the judge said the same each time"
        return Estimate(value=0.0, level=how.level, n=len(spread), clusters=len(spread), unit="share", why=why)
    return of_statistic(reach, len(variances), how, "share")
