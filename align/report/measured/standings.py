"""Which of several runs is best, by the metric that their recipe compares evaluations by, and by how much for certain.

Each is compared with the one in front, row by row where both have the same rows. A difference counts from two standard
errors on; of more than two runs the best was picked among many, so that more is asked: as rarely as two errors are
passed by chance by one, they may be passed by any of all the others (Bonferroni).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from align.methods.metrics import about
from align.report.alike import alike
from align.report.folder import Run
from align.report.headline import compare, outcome, paired, points, told
from align.report.measures import Measure
from align.report.parts.blocks import Block, Table, note
from align.report.state import State, standing, state_of
from align.report.text import amount, exact, is_share, label, said

ERRORS = 2.0  # standard errors that a single difference must have
METRIC = "metric_for_best_model"
USUAL = (("reward", True), ("accuracy", True), ("token_accuracy", True))  # where the recipes' own is not the same
FRONT, LEVEL, BEHIND = "best", "not told apart from the first", ""
CHOSEN = "The number of the first is flattering: of so many it was chosen by these same rows."


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A run that has ended, with its number."""

    run: Run
    measure: Measure
    gap: Measure | None = None  # from the first
    paired: bool = False  # whether the gap is one of the same rows
    place: str = BEHIND


@dataclass(frozen=True, kw_only=True)
class Standings:
    """The best first."""

    key: str
    split: str
    ranked: Sequence[Standing]
    left: Sequence[tuple[Run, str]]  # runs that are not ranked, and why
    instead_of: str = ""  # the recipes' metric, where the runs mean different quantities by it


def standings(runs: Sequence[Run]) -> Standings | None:
    """None where the runs that have ended are not compared by one metric, or have no number that means the same."""
    ended = [run for run in runs if state_of(run) is State.ENDED]
    asked = {_asked(run) for run in ended}
    if len(asked) != 1 or not (known := asked.pop()):
        return None
    key, larger = next((usual for usual in (known, *USUAL) if _shared(usual[0], ended)), ("", False))
    if not key:
        return None
    split = "test" if any(outcome(run, key)[1] == "test" for run in runs) else "validation"
    found, left = list[Standing](), list[tuple[Run, str]]()
    for run in runs:
        measure, _ = outcome(run, key)
        if measure is None or (why := _not_ranked(run, key, split)):
            left.append((run, why if measure else "was not measured"))
        else:
            found.append(Standing(run=run, measure=measure))
    if not found:
        return None
    found.sort(key=lambda one: one.measure.value, reverse=larger)
    instead = known[0] if key != known[0] else ""
    return Standings(key=key, split=split, ranked=_placed(found), left=left, instead_of=instead)


def _shared(key: str, runs: Sequence[Run]) -> bool:
    """Whether some have a number of this name, and all mean the same by it."""
    having = [run for run in runs if outcome(run, key)[0]]
    return bool(having) and all(alike(key, run, having[0]) for run in having)


def _not_ranked(run: Run, key: str, split: str) -> str:
    """Why a run with a number has no place; empty where it has one."""
    measure, own = outcome(run, key)
    if state_of(run) is not State.ENDED:
        return standing(run)
    if measure is None or not math.isfinite(measure.value):
        return "has no finite number"
    return "" if own == split else f"was measured on {own} rows alone"


def _asked(run: Run) -> tuple[str, bool] | None:
    """The metric that a run's evaluations are compared by, and whether the larger is the better."""
    training = run.recipe.get("training")
    key = training.get(METRIC) if isinstance(training, dict) else None
    if not isinstance(training, dict) or not isinstance(key, str) or not key:
        return None
    larger = training.get("greater_is_better")
    return key, about(key, run.about).better == "larger" if larger is None else bool(larger)


def _placed(found: Sequence[Standing]) -> list[Standing]:
    """With the gaps to the first, and who is as good as it for all that is known."""
    first, *others = found
    needed = errors_of(len(others))
    made: list[Standing] = []
    for one in others:
        gap = compare(one.measure, first.measure)
        behind = gap.stderr is not None and abs(gap.value) > needed * gap.stderr
        is_paired = paired(one.measure, first.measure)
        made.append(
            Standing(run=one.run, measure=one.measure, gap=gap, paired=is_paired, place=BEHIND if behind else LEVEL)
        )
    alone = bool(made) and all(one.place == BEHIND for one in made)
    return [Standing(run=first.run, measure=first.measure, place=FRONT if alone else ""), *made]


def errors_of(others: int) -> float:
    """Standard errors that the first must be ahead of each of so many others."""
    usual = NormalDist()
    return ERRORS if others < 2 else -usual.inv_cdf(usual.cdf(-ERRORS) / others)


# ---- shown ----------------------------------------------------------------------------------------------------------


def ranking(runs: Sequence[Run]) -> list[Block]:
    """The table. Nothing where the runs are compared by different metrics."""
    found = standings(runs)
    if found is None:
        return []
    key = found.key
    rows = [[one.run.name, told(one.measure, key), _gap(key, one), _count(one), one.place] for one in found.ranked]
    rows += [[run.name, "", "", "", why] for run, why in found.left]
    head = ["", f"{label(key)} ({found.split})", "From the first", "Rows", ""]
    remarks = " ".join(_remarks(found))
    return [Table(head=head, rows=rows), *([note(remarks)] if remarks else [])]


def _gap(key: str, one: Standing) -> str:
    if one.gap is None:
        return ""
    share = _percent(key, one)
    words = exact(one.gap.value, points(one.gap, 100 if share else 1))
    return said("{}{}, {}", words, " points" if share else "", "paired" if one.paired else "unpaired")


def _percent(key: str, one: Standing) -> bool:
    return is_share(key) and 0 <= one.measure.value <= 1


def _count(one: Standing) -> str:
    return f"{one.measure.n:,}" if one.measure.n else ""


def _remarks(found: Standings) -> Iterator[str]:
    others = len(found.ranked) - 1
    if found.instead_of:
        yield f"Not by {label(found.instead_of).lower()}, of which these runs mean different quantities."
    if not others:
        return
    if found.ranked[0].place == FRONT:
        yield f"The first is ahead of each other by more than {errors_of(others):.2g} standard errors of a difference."
    elif any(one.gap and one.gap.stderr is None for one in found.ranked):
        yield "Without standard errors nothing says whether a difference is more than noise."
    else:
        level = sum(one.place == LEVEL for one in found.ranked)
        many = "one other is" if level == 1 else f"{level} others are"
        yield f"No run is the best for certain: {many} within {errors_of(others):.2g} standard errors of the first."
    if others > 1:
        yield CHOSEN


def lines(runs: Sequence[Run]) -> Iterator[str]:
    """The same for a terminal."""
    found = standings(runs)
    if found is None:
        return
    yield f"{label(found.key)} on {found.split} rows, the best first:"
    for one in found.ranked:
        share = _percent(found.key, one)
        number = amount(one.measure.value, one.measure.stderr, share=share)
        gap = points(one.gap, 100 if share else 1) + (" points" if share else "") if one.gap else ""
        yield "  " + "; ".join(word for word in (f"{one.run.name}: {number}", gap, one.place) if word)
    yield from (f"  {run.name}: {why}" for run, why in found.left)
    yield from (f"  {remark}" for remark in _remarks(found))
