"""Means of scores, and paired differences of two models' scores, task by task and metric by metric.

A prompt's samples are averaged first. Where a metric is right or wrong and prompts have several samples, pass@k, pass^k
and, where answers were extracted, maj@k are further metrics; of rewards, best@k. What has no score is counted and
left out.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from align_eval.analysis.evaluation import GRADE, Evaluation
from align_eval.analysis.missing import named
from align_eval.records import Score
from align_eval.results.document import Difference, Scored
from align_eval.statistics import tests
from align_eval.statistics.estimate import Estimate
from align_eval.statistics.resampling import USUAL, Resampling, difference, mean, of_statistic, ratio
from align_eval.statistics.samples import best_of_k, maj_at_k, pass_at_k, pass_hat_k
from align_eval.statistics.shares import discord, share

EXTRACTED = "extracted"  # a score's column: the answer as it was read, the same for equal answers
Metric = tuple[str, str]  # task, metric


@dataclass(frozen=True, kw_only=True)
class Column:
    """One metric of one model: a number for each prompt."""

    model: str
    task: str
    metric: str
    values: dict[str, float]  # by item
    counts: dict[str, int]  # of samples, by item
    right_or_wrong: bool  # each sample is 0 or 1
    single: bool  # one sample a prompt
    unit: str = ""
    parts: dict[str, tuple[float, float]] | None = None  # by item, how many of how many, where each of these counts

    @cached_property
    def yes_or_no(self) -> bool:
        return self.right_or_wrong and self.single

    def estimate(self, how: Resampling, items: Sequence[str] | None = None) -> Estimate:
        wanted = list(self.values) if items is None else items
        if self.parts is not None:
            above, below = self._sums(wanted)
            return replace(ratio(above, below, how, self.unit or "share"), n=int(below.sum()))
        numbers = np.array([self.values[i] for i in wanted])
        found = share(numbers, how.level) if self.right_or_wrong else mean(numbers, how, self.unit)
        return replace(found, n=sum(self.counts[i] for i in wanted))

    def _sums(self, items: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        parts = self.parts or {}
        return np.array([parts[i][0] for i in items]), np.array([parts[i][1] for i in items])

    def less(self, other: Column, items: Sequence[str], how: Resampling) -> Estimate:
        """This one's mean less the other's on the same prompts."""
        mine = np.array([self.values[i] for i in items], dtype=np.float64)
        theirs = np.array([other.values[i] for i in items], dtype=np.float64)
        if self.parts is not None and other.parts is not None:
            (f, o), (g, p) = self._sums(items), other._sums(items)
            return of_statistic(lambda n: n @ f / (n @ o) - n @ g / (n @ p), len(f), how, self.unit or "share")
        if self.yes_or_no and other.yes_or_no:
            return discord(mine - theirs, how.level)
        unit = "share" if self.right_or_wrong and other.right_or_wrong else self.unit
        return difference(mine, theirs, how, unit)


def columns(source: Evaluation) -> list[Column]:
    """Every model's numbers by every metric, in the order in which they appear."""
    groups: dict[tuple[str, str, str], list[Score]] = defaultdict(list)
    for score in source.numbers:
        groups[(*named(score), score.model)].append(score)
    found: list[Column] = []
    for (task, metric, model), scores in groups.items():
        known = [s for s in scores if s.score is not None]
        samples: dict[str, list[Score]] = defaultdict(list)
        for score in sorted(known, key=lambda s: s.sample):
            samples[score.item].append(score)
        if not samples:
            continue
        whole = Column(
            model=model, task=task, metric=metric,
            values={item: statistics.fmean(_number(s) for s in some) for item, some in samples.items()},
            counts={item: len(some) for item, some in samples.items()},
            right_or_wrong=all(s.score in (0.0, 1.0) for s in known), single=max(map(len, samples.values())) == 1,
            unit=str(known[0].columns.get("unit", "")), parts=_parts(samples),
        )  # fmt: skip
        found.append(whole)
        if not whole.single and whole.parts is None and task != GRADE:  # a judge's repeats are no samples
            found += _of_samples(whole, samples) if whole.right_or_wrong else _best_of(whole, samples)
    return found


def _parts(samples: dict[str, list[Score]]) -> dict[str, tuple[float, float]] | None:
    """Where each score is so many of so many, as of several instructions in one prompt."""
    if not all("of" in s.columns and "followed" in s.columns for some in samples.values() for s in some):
        return None
    return {
        item: (sum(float(s.columns["followed"]) for s in some), sum(float(s.columns["of"]) for s in some))
        for item, some in samples.items()
    }


def _sizes(samples: dict[str, list[Score]]) -> list[int]:
    """2, 4, 8, ... and all: as many as every prompt has."""
    least = min(map(len, samples.values()))
    return sorted({*(2**i for i in range(1, 12) if 2**i <= least), least} - {1})


def _best_of(whole: Column, samples: dict[str, list[Score]]) -> Iterator[Column]:
    """What the best of k samples is expected to earn."""
    for k in _sizes(samples):
        values = {item: best_of_k([_number(s) for s in some], k) for item, some in samples.items()}
        yield replace(whole, metric=f"{whole.metric} best@{k}", values=values)


def _of_samples(whole: Column, samples: dict[str, list[Score]]) -> Iterator[Column]:
    for k in _sizes(samples):
        kinds = {"pass@": pass_at_k, "pass^": pass_hat_k}
        for name, of in kinds.items():
            values = {i: of(len(some), sum(s.score == 1 for s in some), k) for i, some in samples.items()}
            yield replace(whole, metric=f"{whole.metric} {name}{k}", values=values)
        if all(EXTRACTED in s.columns for some in samples.values() for s in some):
            values = {item: _majority(some, k) for item, some in samples.items()}
            yield replace(whole, metric=f"{whole.metric} maj@{k}", values=values)


def _majority(samples: Sequence[Score], k: int) -> float:
    given: list[Hashable | None] = [_answer(s) for s in samples]
    right = {a for a, s in zip(given, samples, strict=True) if a is not None and s.score == 1}
    return maj_at_k(given, right, k)


def _answer(score: Score) -> str | None:
    value = score.columns[EXTRACTED]
    return None if value is None or value == "" else str(value)


def scored(source: Evaluation, how: Resampling = USUAL, models: Sequence[str] = ()) -> list[Scored]:
    """A row for each model and metric, over all prompts and in each category."""
    rows: list[Scored] = []
    for column in columns(source):
        if models and column.model not in models:
            continue
        for category, items in [("", list(column.values)), *source.by_category(column.values)]:
            rows.append(
                Scored(
                    model=column.model, task=column.task, metric=column.metric, category=category,
                    estimate=column.estimate(how, items),
                )
            )  # fmt: skip
    return rows


def differences(source: Evaluation, a: str, b: str, how: Resampling = USUAL) -> tuple[list[Difference], list[str]]:
    """a less b on the prompts that both have a number for, and what could not be paired."""
    found = {(c.task, c.metric, c.model): c for c in columns(source) if c.model in (a, b)}
    rows: list[Difference] = []
    warnings: list[str] = []
    for (task, metric, model), ours in found.items():
        theirs = found.get((task, metric, b))
        if model != a or theirs is None:
            continue
        both = [item for item in ours.values if item in theirs.values]
        alone = len(ours.values) + len(theirs.values) - 2 * len(both)
        if alone:
            name = _named(task, metric)
            warnings.append(f"{name}: {alone} prompts have a score of one of {a} and {b}; {len(both)} are paired")
        for category, items in [("", both), *source.by_category(both)]:
            if items or not category:
                rows.append(_difference(ours, theirs, items, how, category))
    return rows, warnings


def _difference(ours: Column, theirs: Column, items: Sequence[str], how: Resampling, category: str) -> Difference:
    gaps = np.array([ours.values[i] - theirs.values[i] for i in items], dtype=np.float64)
    binary = ours.yes_or_no and theirs.yes_or_no
    sign = tests.sign_test(int((gaps > 0).sum()), int((gaps < 0).sum()))
    return Difference(
        a=ours.model, b=theirs.model, task=ours.task, metric=ours.metric, category=category,
        difference=ours.less(theirs, items, how),
        tests={"mcnemar" if binary else "sign": sign, "permutation": tests.permutation(gaps, seed=how.seed)}
        if len(gaps) else {},
        detectable=tests.detectable(gaps, how.level),
    )  # fmt: skip


def _named(task: str, metric: str) -> str:
    return f"{task} {metric}" if task else metric


def _number(score: Score) -> float:
    assert score.score is not None, "taken out before"
    return score.score
