"""The warnings of a run, in words. "At chance", "rose" and "better" mean by two standard errors."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from align.methods.metrics import about
from align.report.curves import is_pairwise
from align.report.findings_online import online_findings
from align.report.folder import Run
from align.report.headline import baselines, compare, ends, outcome
from align.report.measured.weights import COUNT, learned_weights
from align.report.measures import Measure
from align.report.rows import counts
from align.report.state import State, progress, state_of
from align.report.text import amount, label, short
from align.runfolder.folder import ONLOOKER

# Stop reasons of a text that was cut off.
CUT = ("length", "max_length", "max_tokens", "max_new_tokens", "window", "truncated")
FEWEST, APART = 10, 2.0  # steps of the second half, and standard errors, by which a twin is seen to lag
COLLAPSED = 1.05  # sources of equal weight
SPIKE = 8.0  # times the median gradient norm


@dataclass(frozen=True)
class Finding:
    """A warning, or a remark when `grave` is False."""

    text: str
    grave: bool = True


def findings(run: Run) -> list[Finding]:
    """Everything a careful reader would want to be told first."""
    return [f for check in CHECKS for f in check(run)] + [Finding(note, grave=False) for note in run.notes]


def _not_ended(run: Run) -> list[Finding]:
    if state_of(run) is State.GOES_ON:
        return [Finding(f"This run goes on ({run.held_by}): it has come {progress(run)}.", grave=False)]
    if state_of(run) is State.STOPPED:
        cure = "`align train RECIPE --resume` goes on from its last checkpoint"
        return [Finding(f"This run was stopped or has failed {progress(run)}, and is not whole: {cure}.")]
    return []


def _not_finite(run: Run) -> list[Finding]:
    found: list[Finding] = []
    for key, column in run.columns.items():
        bad = [int(step) for step in column.steps[~np.isfinite(column.values)].tolist()]
        if bad and not key.endswith("_stderr"):
            count = "one step" if len(bad) == 1 else f"{len(bad):,} steps, the first"
            found.append(Finding(f"{label(key)} was not a finite number at {count}: {bad[0]:,}."))
    return found


def _loss_rose(run: Run) -> list[Finding]:
    line = run.curve("loss")
    if len(line) < 20 or run.curve("reward"):  # a policy gradient's loss says nothing by itself
        return []
    first, last = ends(line)
    if last.value - first.value <= 2 * math.hypot(first.stderr or 0, last.stderr or 0):
        return []
    words = f"from {amount(first.value, first.stderr)} to {amount(last.value, last.stderr)}"
    return [Finding(f"The training loss rose {words}, comparing the first and the last tenth of the steps.")]


def _overfitted(run: Run) -> list[Finding]:
    evaluations = run.evaluations("loss")
    if len(evaluations) < 2:
        return []
    step, best = min(evaluations, key=lambda e: e[1].value)
    last_step, last = evaluations[-1]
    # The same rows at two times: their errors go together, so the larger one alone is already cautious.
    error = max(best.stderr or 0, last.stderr or 0)
    if not error or last.value - best.value <= 2 * error:
        return []
    lowest = f"{amount(best.value, best.stderr)} at step {step:,.0f}"
    now = f"{amount(last.value, last.stderr)} at step {last_step:,.0f}"
    return [Finding(f"The validation loss rose from its lowest, {lowest}, to {now}.")]


def _at_chance(run: Run) -> list[Finding]:
    accuracy, split = outcome(run, "accuracy")
    if not accuracy or not is_pairwise(run) or accuracy.stderr is None:
        return []
    if abs(accuracy.value - 0.5) > 2 * accuracy.stderr:
        below = accuracy.value < 0.5
        return [Finding(f"The {split} accuracy is below chance: {_share(accuracy)}.")] if below else []
    return [Finding(f"The {split} accuracy, {_share(accuracy)}, is within two standard errors of chance (50 %).")]


def _share(measure: Measure) -> str:
    return amount(measure.value, measure.stderr, share=True)


def _not_above_baseline(run: Run) -> list[Finding]:
    accuracy, split = outcome(run, "accuracy")
    found: list[Finding] = []
    for name, measure in baselines(run).items() if accuracy and split == "test" else ():
        gap = compare(accuracy, measure) if accuracy else measure
        if gap.stderr is not None and gap.value <= 2 * gap.stderr:
            words = f"{_share(accuracy)} against {_share(measure)}" if accuracy else ""
            found.append(Finding(f"Not better than {label(name).lower()} by two standard errors: {words}."))
    return found


def _spikes(run: Run) -> list[Finding]:
    line = run.curve("grad_norm")
    if len(line) < 10:
        return []
    middle = statistics.median(y for _, y in line)
    high = [(x, y) for x, y in line if middle > 0 and y > SPIKE * middle]
    if not high:
        return []
    step, top = max(high, key=lambda p: p[1])
    count = "once" if len(high) == 1 else f"{len(high)} times"
    largest = f"the largest, {short(top)}, at step {step:,.0f}"
    return [Finding(f"The gradient norm rose {count} above {SPIKE:.0f} times its median {short(middle)}; {largest}.")]


def _stopped_early(run: Run) -> list[Finding]:
    if run.outcome.get("ended_early") is not True:
        return []
    if run.outcome.get("ended_by") == ONLOOKER:
        who = "who looked on (`on_step`, or a callback)"
        return [Finding(f"Ended at step {run.last_step:,} by {who}, before its last step.", grave=False)]
    training = run.recipe.get("training")
    settings: dict[str, Any] = training if isinstance(training, dict) else {}
    key = str(settings.get("metric_for_best_model") or "loss").removeprefix("eval/").removeprefix("eval_")
    evaluations = run.evaluations(key)
    if not evaluations:
        return [Finding(f"Early stopping ended the run at step {run.last_step:,}.", grave=False)]
    larger = settings.get("greater_is_better")
    larger = about(key, run.about).better == "larger" if larger is None else larger
    better = max if larger else min
    best = better(evaluations, key=lambda e: e[1].value)
    since = len(evaluations) - 1 - evaluations.index(best)
    top = f"{amount(best[1].value, best[1].stderr)} at step {best[0]:,.0f}"
    what = f"the validation {label(key).lower()} did not improve on {top} in {since} evaluations"
    return [Finding(f"Early stopping ended the run at step {run.last_step:,}: {what}.", grave=False)]


def is_cut(reason: str) -> bool:
    """Whether a stop reason means that the text was cut off rather than finished."""
    return reason.lower().rsplit(".", 1)[-1] in CUT


def _cut(run: Run) -> list[Finding]:
    end = max((s.step for s in run.samples), default=0)
    last = [s for s in run.samples if s.stage != "before" and s.step == end and s.stop_reason]
    cut = sum(is_cut(s.stop_reason) for s in last)
    if not last or 2 * cut < len(last) or run.curve("truncated"):  # where the policy writes, all of them are counted
        return []
    cure = "raise logging.max_completion_length to see how they end"
    return [Finding(f"{cut} of {len(last)} completions after training were cut at the length limit; {cure}.")]


def _dropped(run: Run) -> list[Finding]:
    found: list[Finding] = []
    for c in counts(run.data):
        if c.read and c.dropped >= c.read:
            found.append(Finding(f"All {c.read:,} rows of {c.name} were dropped: {c.reasons_in_words()}."))
        elif c.read and c.dropped > 0.1 * c.read:
            share = f"{c.dropped:,} of {c.read:,} rows"
            found.append(Finding(f"More than a tenth of {c.name} was dropped, {share}: {c.reasons_in_words()}."))
    return found


def _of_rollouts(run: Run) -> list[Finding]:
    return [Finding(sentence) for sentence in online_findings(run)]


def _of_weights(run: Run) -> list[Finding]:
    """Of learned weights of sources."""
    return [Finding(sentence) for sentence in _doubts(run)]


def _doubts(run: Run) -> Iterator[str]:
    """What a careful reader of learned weights would want to be told first."""
    twin = dict(run.curve("twin/loss"))
    gaps = [value - twin[step] for step, value in run.curve("sources/loss") if step in twin]
    late = gaps[len(gaps) // 2 :]
    if len(late) >= FEWEST and statistics.mean(late) < -APART * statistics.stdev(late) / math.sqrt(len(late)):
        yield (
            f"The twin fits the sources less well than the policy, by {short(-statistics.mean(late))} in the second "
            "half of the steps: it learns too slowly for the weights to mean much. Raise method.twin_rate."
        )
    count = run.curve(COUNT)
    if len(learned_weights(run)) > 1 and count and count[-1][1] < COLLAPSED:
        yield (
            f"Nearly all weight is on one source (as many as {short(count[-1][1])} of equal weight): a lower "
            "method.weights_rate, or a shorter run, tells more of the others."
        )


CHECKS = (
    _not_ended,
    _not_finite,
    _of_rollouts,
    _of_weights,
    _loss_rose,
    _overfitted,
    _at_chance,
    _not_above_baseline,
    _spikes,
    _stopped_early,
    _cut,
    _dropped,
)
