"""The strongest statement that a run's numbers allow, with its error bars; `±` is one standard error everywhere."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from markupsafe import Markup

from align.report.curves import is_pairwise
from align.report.folder import Run
from align.report.measures import Measure
from align.report.text import Number, amount, exact, is_share, label, method_label, said

GOOD = Markup("<strong>{}</strong>")  # the number that a sentence is about


def headline(run: Run) -> list[Markup]:
    """One to three sentences, the strongest statement that the run's numbers allow first."""
    who = method_label(run.method)
    who = f"The {who[0].lower()}{who[1:]}" if " " in who else who
    if not run.steps and not run.test:
        return [said("{} has not logged a step yet.", who)]
    key = next((k for k in ("accuracy", "token_accuracy") if outcome(run, k)[0]), "accuracy")
    accuracy, _ = outcome(run, key)
    if found := _reward_sentence(run, who):
        return found
    if accuracy and 0 <= accuracy.value <= 1:
        found.append(_accuracy_sentence(run, who, key))
        found += _baselines(run, accuracy) if key == "accuracy" else []
    found += _loss_sentence(run, who if not found else "")
    return found or [said("{} ran for {} steps and logged no loss.", who, f"{run.last_step:,}")]


def outcome(run: Run, key: str) -> tuple[Measure | None, str]:
    """The value of the weights in final/ on rows held out from training: the test split's, else their evaluation's."""
    if key in run.test:
        return run.test[key], "test"
    evaluations = run.evaluations(key)
    return (_kept(run, evaluations)[1], "validation") if evaluations else (None, "")


def _kept(run: Run, evaluations: Sequence[tuple[float, Measure]]) -> tuple[float, Measure]:
    """The evaluation of the weights in final/, which need not be the last where the best one is kept."""
    return next((e for e in evaluations if e[0] == run.outcome.get("final_step")), evaluations[-1])


def before(run: Run, key: str, split: str) -> Measure | None:
    """The same metric, on the same split, before the first step. None also where all pairs tied, which says nothing."""
    return None if key == "accuracy" and tied_before(run, split) else _before(run, key, split)


def tied_before(run: Run, split: str) -> bool:
    """Whether no pair had a margin yet, as where the policy begins as its own reference."""
    margin, accuracy = _before(run, "margin", split), _before(run, "accuracy", split)
    return margin is not None and accuracy is not None and margin.value == accuracy.value == 0


def _before(run: Run, key: str, split: str) -> Measure | None:
    if split == "test":
        return next((run.test[k] for k in (f"before/{key}", f"before_{key}", f"{key}/before") if k in run.test), None)
    return next((m for step, m in run.evaluations(key) if step == 0), None)


def told(measure: Measure, key: str) -> Markup:
    """The measure, its exact value behind it."""
    return exact(measure.value, amount(measure.value, measure.stderr, share=is_share(key) and 0 <= measure.value <= 1))


def _accuracy_sentence(run: Run, who: str, key: str) -> Markup:
    accuracy, split = outcome(run, key)
    assert accuracy, "asked for only where there is one"
    verb, thing, end = "judges", "rows", " rightly"
    if key == "token_accuracy":
        verb, thing, end = "predicts", "tokens", ""
    elif is_pairwise(run):
        verb, thing, end = "ranks", "pairs", " rightly"
    count = f"{accuracy.n:,} " if accuracy.n and thing != "tokens" else ""
    earlier = before(run, key, split)
    tail = said("; before training {}", told(earlier, key)) if earlier else ""
    tail = "; before training every pair is a tie" if key == "accuracy" and tied_before(run, split) else tail
    share = said(GOOD, told(accuracy, key))
    return said("{} {} {} of {}held-out {} {}{}{}.", who, verb, share, count, split, thing, end, tail)


def _reward_sentence(run: Run, who: str) -> list[Markup]:
    """Of a policy that writes: what its greedy completions earn, and how far it has gone for it."""
    reward, split = outcome(run, "reward")
    if reward is None:
        return _training_reward(run, who)
    earlier, line = before(run, "reward", split), run.curve("kl")
    count = f"{reward.n:,} " if reward.n else ""
    tail = said("; before training {}", told(earlier, "reward")) if earlier else ""
    earned = said(GOOD, told(reward, "reward"))
    found = [said("{} earns {} on {}held-out {} prompts{}.", who, earned, count, split, tail)]
    if line:
        last = told(ends(line)[1], "kl")
        found.append(said("It wrote {} nats a completion away from the reference at the end.", last))
    return found


def _training_reward(run: Run, who: str) -> list[Markup]:
    """Where nothing was held out: what the completions earned that it learned from."""
    if not (line := run.curve("reward")):
        return []
    first, last = (told(end, "reward") for end in ends(line))
    sentence = "{} earned {} in training at the end, {} at the beginning; no prompts were held out."
    return [said(sentence, who, said(GOOD, last), first)]


def baselines(run: Run, key: str = "accuracy") -> dict[str, Measure]:
    """Other ways to reach the same metric, on the same rows: `baselines/bag_of_words_accuracy`."""
    names = {k: k.removeprefix("baselines/") for k in run.test if k.startswith("baselines/")}
    return {n.removesuffix(f"_{key}"): run.test[k] for k, n in names.items() if n.endswith(f"_{key}")}


def _baselines(run: Run, accuracy: Measure) -> list[Markup]:
    found: list[Markup] = []
    for name, measure in baselines(run).items():
        difference = compare(accuracy, measure)
        gap = exact(difference.value, points(difference))
        theirs = told(measure, "accuracy")
        found.append(said("That is {} points against the {}, {}.", gap, label(name).lower(), theirs))
    return found


def points(difference: Measure, scale: Number = 100) -> str:
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
    """Whether both hold the values of the same rows, and are their plain means (token-weighted ones are not)."""
    if not len(ours.rows) == len(theirs.rows) > 1 or ours.ids != theirs.ids:
        return False
    return all(math.isclose(statistics.fmean(m.rows), m.value, rel_tol=1e-5, abs_tol=1e-7) for m in (ours, theirs))


def _loss_sentence(run: Run, who: str) -> list[Markup]:
    evaluations, line = run.evaluations("loss"), run.curve("loss")
    if len(evaluations) > 1:
        (start, first), (end, last) = evaluations[0], evaluations[-1]
        kept, least = _kept(run, evaluations)
        tail = said("; the weights of step {} are kept, with {}", f"{kept:,.0f}", told(least, "loss"))
        return [
            said(
                "{} went from {} at step {} to {} at step {}{}.", _named("validation loss", who), told(first, "loss"),
                f"{start:,.0f}", told(last, "loss"), f"{end:,.0f}", tail if kept != end else "",
            )
        ]  # fmt: skip
    if line:
        first, last = (told(found, "loss") for found in ends(line))
        sentence = "{} went from {} to {} (first and last tenth of {} steps)."
        return [said(sentence, _named("training loss", who), first, last, f"{run.last_step:,}")]
    return []


def _named(what: str, who: str) -> str:
    return f"{who}: the {what}" if who else f"The {what}"


def ends(line: Sequence[tuple[float, float]]) -> tuple[Measure, Measure]:
    """Mean and standard error of the first and of the last tenth of a curve."""
    count = max(1, len(line) // 10)
    return _mean([y for _, y in line[:count]]), _mean([y for _, y in line[-count:]])


def _mean(values: Sequence[float]) -> Measure:
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
    return Measure(value=statistics.fmean(values), stderr=error, n=len(values))
