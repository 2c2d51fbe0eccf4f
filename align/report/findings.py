"""What a run says in words: the headline with its error bars, and the warnings.

`±` is one standard error everywhere; "at chance" and "rose" mean by two of them.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from align.report.curves import is_pairwise
from align.report.folder import Measure, Run
from align.report.rows import counts
from align.report.text import amount, escape, exact, is_share, label, method_label, short

# Stop reasons of a text that was cut off.
CUT = ("length", "max_length", "max_tokens", "max_new_tokens", "window", "truncated")
SPIKE = 8.0  # times the median gradient norm


@dataclass(frozen=True)
class Finding:
    """A warning, or a remark when `grave` is False."""

    text: str
    grave: bool = True


# ---- headline -------------------------------------------------------------------------------------------------------


def headline(run: Run) -> list[str]:
    """One to three sentences of HTML, the strongest statement that the run's numbers allow first."""
    who = escape(method_label(run.method))
    if not run.steps and not run.test:
        return [f"{who} has not logged a step yet."]
    accuracy, split = outcome(run, "accuracy")
    said: list[str] = []
    if accuracy and is_share("accuracy") and 0 <= accuracy.value <= 1:
        said.append(_accuracy_sentence(run, who, accuracy, split))
        said += _baselines(run, accuracy)
    said += _loss_sentence(run, who if not said else "")
    return said or [f"{who} ran for {run.last_step:,} steps and logged no loss."]


def outcome(run: Run, key: str) -> tuple[Measure | None, str]:
    """The final value on rows held out from training: the test split's, else the last evaluation's."""
    if key in run.test:
        return run.test[key], "test"
    evaluations = run.evaluations(key)
    return (evaluations[-1][1], "validation") if evaluations else (None, "")


def before(run: Run, key: str, split: str) -> Measure | None:
    """The same metric, on the same split, before the first step. None also where it could say nothing."""
    if split == "test":
        return next((run.test[k] for k in (f"before/{key}", f"before_{key}", f"{key}/before") if k in run.test), None)
    start = [m for step, m in run.evaluations(key) if step == 0]
    margin = [m for step, m in run.evaluations("margin") if step == 0]
    if margin and margin[0].value == 0:  # policy equals reference: every pair is a tie
        return None
    return start[0] if start else None


def told(measure: Measure, key: str) -> str:
    """The measure as HTML, its exact value behind it."""
    return exact(measure.value, amount(measure.value, measure.stderr, share=is_share(key) and 0 <= measure.value <= 1))


def _accuracy_sentence(run: Run, who: str, accuracy: Measure, split: str) -> str:
    verb, thing = ("ranks", "pairs") if is_pairwise(run) else ("predicts", "tokens")
    count = f"{accuracy.n:,} " if accuracy.n and thing == "pairs" else ""
    earlier = before(run, "accuracy", split)
    tail = f"; before training {told(earlier, 'accuracy')}" if earlier else ""
    right = "" if is_pairwise(run) else " right"
    share = f"<strong>{told(accuracy, 'accuracy')}</strong>"
    return f"{who} {verb} {share} of {count}held-out {split} {thing}{right}{tail}."


def baselines(run: Run, key: str = "accuracy") -> dict[str, Measure]:
    """Other ways to reach the same metric, on the same rows: `bag_of_words_accuracy`."""
    names = {k: k.rsplit("/", 1)[-1] for k in run.test if not k.startswith("before")}
    return {n.removesuffix(f"_{key}"): run.test[k] for k, n in names.items() if n.endswith(f"_{key}")}


def _baselines(run: Run, accuracy: Measure) -> list[str]:
    found: list[str] = []
    for name, measure in baselines(run).items():
        difference = compare(accuracy, measure)
        gap = exact(difference.value, points(difference))
        found.append(f"That is {gap} points against the {escape(label(name).lower())}, {told(measure, 'accuracy')}.")
    return found


def points(difference: Measure, scale: float = 100) -> str:
    """A difference of shares in percentage points, with its sign."""
    stderr = None if difference.stderr is None else difference.stderr * scale
    return amount(difference.value * scale, stderr, signed=True)


def compare(ours: Measure, theirs: Measure) -> Measure:
    """The difference of two means with its standard error: paired where both have the same rows, `n` then set."""
    if paired(ours, theirs):
        gaps = [a - b for a, b in zip(ours.rows, theirs.rows, strict=True)]
        return Measure(value=statistics.mean(gaps), stderr=statistics.stdev(gaps) / math.sqrt(len(gaps)), n=len(gaps))
    known = ours.stderr is not None and theirs.stderr is not None
    stderr = math.hypot(ours.stderr or 0, theirs.stderr or 0) if known else None
    return Measure(value=ours.value - theirs.value, stderr=stderr)


def paired(ours: Measure, theirs: Measure) -> bool:
    return len(ours.rows) == len(theirs.rows) > 1 and ours.ids == theirs.ids


def _loss_sentence(run: Run, who: str) -> list[str]:
    evaluations, line = run.evaluations("loss"), run.curve("loss")
    steps = f"{run.last_step:,} steps"
    if len(evaluations) > 1:
        (start, first), (end, last) = evaluations[0], evaluations[-1]
        what = f"{told(first, 'loss')} at step {start:,.0f} to {told(last, 'loss')} at step {end:,.0f}"
        named = f"{who}: the validation loss" if who else "The validation loss"
        return [f"{named} went from {what}."]
    if line:
        first, last = ends(line)
        named = f"{who}: the training loss" if who else "The training loss"
        return [f"{named} went from {told(first, 'loss')} to {told(last, 'loss')} (first and last tenth of {steps})."]
    return []


def ends(line: Sequence[tuple[float, float]]) -> tuple[Measure, Measure]:
    """Mean and standard error of the first and of the last tenth of a curve."""
    count = max(1, len(line) // 10)
    return _mean([y for _, y in line[:count]]), _mean([y for _, y in line[-count:]])


def _mean(values: Sequence[float]) -> Measure:
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
    return Measure(value=statistics.fmean(values), stderr=error, n=len(values))


# ---- warnings -------------------------------------------------------------------------------------------------------


def findings(run: Run) -> list[Finding]:
    """Everything a careful reader would want to be told first."""
    return [f for check in CHECKS for f in check(run)] + [Finding(note, grave=False) for note in run.notes]


def _not_finite(run: Run) -> list[Finding]:
    found: list[Finding] = []
    for key in run.metrics():
        bad = [int(s["step"]) for s in run.steps if not math.isfinite(s.get(key, 0.0))]
        if bad and not key.endswith("_stderr"):
            count = "one step" if len(bad) == 1 else f"{len(bad):,} steps, the first"
            found.append(Finding(f"{label(key)} was not a finite number at {count}: {bad[0]:,}."))
    return found


def _loss_rose(run: Run) -> list[Finding]:
    line = run.curve("loss")
    if len(line) < 20:
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
    training = run.recipe.get("training")
    settings: dict[str, Any] = training if isinstance(training, dict) else {}
    patience = settings.get("early_stopping_patience")
    key = str(settings.get("metric_for_best_model") or "loss").removeprefix("eval/").removeprefix("eval_")
    evaluations = run.evaluations(key)
    if not isinstance(patience, int) or patience < 1 or len(evaluations) <= patience:
        return []
    better = max if settings.get("greater_is_better") else min
    best = better(evaluations, key=lambda e: e[1].value)
    since = len(evaluations) - 1 - evaluations.index(best)
    if since != patience or _ran_its_course(run, settings):
        return []
    top = f"{amount(best[1].value, best[1].stderr)} at step {best[0]:,.0f}"
    what = f"the validation {label(key).lower()} did not improve on {top} in {since} evaluations"
    return [Finding(f"Early stopping ended the run at step {run.last_step:,}: {what}.", grave=False)]


def _ran_its_course(run: Run, settings: dict[str, Any]) -> bool:
    steps, epochs = settings.get("max_steps"), settings.get("num_train_epochs")
    if isinstance(steps, int) and steps > 0:
        return run.last_step >= steps
    logged = run.curve("epoch")
    return bool(logged) and isinstance(epochs, int | float) and logged[-1][1] >= epochs - 1e-6


def is_cut(reason: str) -> bool:
    """Whether a stop reason means that the text was cut off rather than finished."""
    return reason.lower().rsplit(".", 1)[-1] in CUT


def _cut(run: Run) -> list[Finding]:
    last = [s for s in run.samples if s.stage != "before" and s.stop_reason]
    cut = sum(is_cut(s.stop_reason) for s in last)
    if not last or 2 * cut < len(last):
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


CHECKS = (
    _not_finite,
    _loss_rose,
    _overfitted,
    _at_chance,
    _not_above_baseline,
    _spikes,
    _stopped_early,
    _cut,
    _dropped,
)
