"""What runs earn at which divergence from their reference: a point for each evaluation, and runs at equal divergence.

The reward is that of the run's evaluations on held-out prompts. The divergence is that of the experience which the same
weights wrote: the first one after the evaluation, or the last. Runs that evaluate nothing have points of training
rewards, means of tenths of the run. Best rewards are compared where both runs have been, never beyond.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path

import numpy as np
from scipy import stats

from align.errors import UserError
from align.report.alike import kin
from align.report.folder import Run, read
from align.report.measures import Measure
from align.report.text import listed
from align_eval.analysis.runs import of_error
from align_eval.results.document import Checkpoint, Sections
from align_eval.statistics.divergence import Envelope, envelope, overoptimised, shared_range
from align_eval.statistics.estimate import Estimate
from align_eval.statistics.resampling import USUAL, Resampling
from align_eval.statistics.shares import z_of

BINS = 10  # of a run without evaluations
PLACES = 5  # divergences at which two runs are compared


@dataclass(frozen=True, kw_only=True)
class AtEqualKl:
    """The best reward of both up to this divergence, each between its checkpoints."""

    a: str
    b: str
    kl: float  # nats a completion
    reward_a: float
    reward_b: float
    difference: Estimate


@dataclass(frozen=True, kw_only=True)
class Frontier:
    points: list[Checkpoint]
    envelopes: dict[str, Envelope]
    equal: list[AtEqualKl]
    peaks: dict[str, tuple[float, float]]  # (divergence, reward) after which a run's reward falls
    warnings: list[str] = field(default_factory=list)

    def sections(self) -> Sections:
        return Sections(frontier=self.points)


def frontier(runs: Sequence[Path | str], reward: str = "reward", how: Resampling = USUAL) -> Frontier:
    """`reward`: the metric, such as `rewards/NAME` for one function among several. UserError: a run without it, or runs
    whose functions are others: their rewards have no axis in common."""
    paths = [Path(run) for run in runs]
    names = [p.name for p in paths] if len({p.name for p in paths}) == len(paths) else [str(p) for p in paths]
    read_runs = [_read(path, name) for path, name in zip(paths, names, strict=True)]
    _refuse_unlike(read_runs, reward)
    points: list[Checkpoint] = []
    warnings: list[str] = []
    for run in read_runs:
        found, told = _points(run, reward, how.level)
        points, warnings = [*points, *found], [*warnings, *told]
    return of_points(points, how, warnings)


def of_points(points: Sequence[Checkpoint], how: Resampling = USUAL, warnings: Sequence[str] = ()) -> Frontier:
    """The same of points from anywhere."""
    by_run = {name: [p for p in points if p.run == name] for name in dict.fromkeys(p.run for p in points)}
    lines = {name: envelope(*_xy(found)) for name, found in by_run.items()}
    peaks = {name: peak for name, found in by_run.items() if (peak := overoptimised(*_xy(found)))}
    equal: list[AtEqualKl] = []
    told = list(warnings)
    for a, b in combinations(by_run, 2):
        if (both := shared_range(lines[a], lines[b])) is None:
            told.append(f"{a} and {b} have no divergence in common, and are not compared")
            continue
        places = np.linspace(math.sqrt(max(both[0], 0)), math.sqrt(both[1]), PLACES) ** 2 if both[1] > 0 else [both[0]]
        equal += [_at(by_run[a], by_run[b], min(max(float(x), both[0]), both[1]), how) for x in dict.fromkeys(places)]
    return Frontier(points=list(points), envelopes=lines, equal=equal, peaks=peaks, warnings=told)


def _at(ours: Sequence[Checkpoint], theirs: Sequence[Checkpoint], kl: float, how: Resampling) -> AtEqualKl:
    a, b = (envelope(*_xy(points)).at(kl) for points in (ours, theirs))
    assert a is not None, "both have been there"
    assert b is not None, "both have been there"
    errors = [_errors(points) for points in (ours, theirs)]
    bare = Estimate(value=a - b, level=how.level, n=len(ours) + len(theirs), why="evaluations without intervals")
    if not any(e is None for e in errors):
        random = np.random.default_rng(how.seed)
        drawn = [_drawn(points, e, kl, how.num, random) for points, e in zip((ours, theirs), errors, strict=True)]
        low, high = np.percentile(drawn[0] - drawn[1], [50 * (1 - how.level), 50 * (1 + how.level)])
        bare = Estimate(
            value=a - b, low=float(low), high=float(high), level=how.level, n=len(ours) + len(theirs),
            method=f"evaluations drawn anew from their standard errors, {how.num} times, seed {how.seed}",
        )  # fmt: skip
    return AtEqualKl(a=ours[0].run, b=theirs[0].run, kl=kl, reward_a=a, reward_b=b, difference=bare)


def _drawn(
    points: Sequence[Checkpoint], errors: np.ndarray | None, kl: float, num: int, random: np.random.Generator
) -> np.ndarray:
    assert errors is not None, "asked for only where there are"
    x, y = _xy(points)
    noise = random.normal(size=(num, len(points))) * errors
    return np.array([envelope(x, list(np.array(y) + row)).at(kl) for row in noise], dtype=np.float64)


def _errors(points: Sequence[Checkpoint]) -> np.ndarray | None:
    found = [
        (p.reward.high - p.reward.low) / 2 / z_of(p.reward.level)
        for p in points if p.reward.low is not None and p.reward.high is not None
    ]  # fmt: skip
    return np.array(found) if len(found) == len(points) else None


def _xy(points: Sequence[Checkpoint]) -> tuple[list[float], list[float]]:
    return [float(p.kl.value or 0.0) for p in points], [float(p.reward.value or 0.0) for p in points]


# ---- points of a run ------------------------------------------------------------------------------------------------


def _read(path: Path, name: str) -> Run:
    run = read(path)
    if not isinstance(run, Run):
        raise UserError(f"{path}: holds several runs; name those that are meant")
    return replace(run, name=name)


def _refuse_unlike(runs: Sequence[Run], reward: str) -> None:
    """UserError where the runs are paid by different functions."""
    groups = kin(reward, list(enumerate(runs)))
    if len(groups) > 1:
        told = "; ".join(listed([run.name for _, run in group]) for group in groups)
        raise UserError(
            f"frontier: {reward} is not the same quantity in all of these runs, whose section `reward` differs, so "
            f"that they have no axis in common. Give each of these groups by itself: {told}"
        )


def _points(run: Run, reward: str, level: float) -> tuple[list[Checkpoint], list[str]]:
    path, name = run.path, run.name
    kl = list(run.curve("kl"))
    if not kl:
        raise UserError(f"{path}: logged no kl; a frontier is of runs whose policy writes, with a reference model")
    evaluations, lengths = run.evaluations(reward), dict(run.evaluations("completion_length"))
    if evaluations:
        found = [_evaluated(name, step, m, lengths.get(step), _written_at(kl, step), level) for step, m in evaluations]
        return found, []
    trained = list(run.curve(reward))
    if not trained:
        raise UserError(f"{path}: has no metric {reward}; it has {', '.join(run.metrics())}")
    return list(_tenths(run, name, reward, level)), [f"{name}: evaluated nothing; its points are of training rewards"]


def _written_at(kl: Sequence[tuple[float, float]], step: float) -> float:
    return next((value for at, value in kl if at > step), kl[-1][1])


def _evaluated(
    name: str, step: float, reward: Measure, length: Measure | None, kl: float, level: float
) -> Checkpoint:
    divergence = Estimate(value=kl, level=level, unit="nats", why="of one experience, logged without its spread")
    return Checkpoint(
        run=name, step=int(step), kl=divergence, reward=of_error(reward.value, reward.stderr, reward.n, level),
        length=of_error(length.value, length.stderr, length.n, level, "tokens") if length else None,
    )  # fmt: skip


def _tenths(run: Run, name: str, reward: str, level: float):
    kl, lengths = dict(run.curve("kl")), dict(run.curve("completion_length"))
    steps = [step for step, _ in run.curve(reward) if step in kl]
    earned = dict(run.curve(reward))
    for part in np.array_split(np.array(steps), min(BINS, len(steps))):
        lengths_here = [lengths[s] for s in part if s in lengths]
        yield Checkpoint(
            run=name, step=int(part[-1]), kl=_over([kl[s] for s in part], level, "nats"),
            reward=_over([earned[s] for s in part], level, ""),
            length=_over(lengths_here, level, "tokens") if lengths_here else None,
        )  # fmt: skip


def _over(values: Sequence[float], level: float, unit: str) -> Estimate:
    """The mean over experiences, with Student's t."""
    value, n = float(np.mean(values)), len(values)
    if n < 2:
        return Estimate(value=value, level=level, n=n, unit=unit, why="one experience alone has no interval")
    half = float(stats.t.ppf((1 + level) / 2, n - 1) * np.std(values, ddof=1) / math.sqrt(n))
    return Estimate(
        value=value, low=value - half, high=value + half, level=level, n=n, unit=unit, method="Student's t over steps"
    )
