"""Which charts a run is shown by. The known metrics come first, every other one follows in its own chart."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from align.methods.metrics import About, about
from align.report.folder import Run
from align.report.points import Curve, window_of
from align.report.svg import Chart, Series, chart, stacked
from align.report.text import escape, exact, folded, label, short, table

QUALITY = ("reward", "kl", "loss", "accuracy", "token_accuracy", "margin", "rewards", "logps", "entropy")
FRONTIER = "frontier"
FIRST = (FRONTIER, *QUALITY, "learning_rate", "grad_norm", "tokens_per_second", "memory_mb")
SIDES = (
    ("chosen_", "rejected_"),
    ("rejected_", "chosen_"),
    ("desirable_", "undesirable_"),
    ("undesirable_", "desirable_"),
)
EXACT = ("learning_rate", "memory_mb", "epoch")  # set by the run, not measured with noise
UNSHOWN = ("epoch", "num_rounds")
TOGETHER = {"kl_k3": "kl", "ended": "truncated", "failed_rewards": "not_judged"}  # metric -> whose chart it is drawn in
SUFFIXES = ("_stderr", "_n")


def plain_keys(run: Run) -> list[str]:
    """Metrics under their own name, whether they were logged in training, in evaluation or in both."""
    keys = (k.removeprefix("eval/") for k in run.metrics() if k != "eval/n")
    return list(dict.fromkeys(k for k in keys if not k.endswith(SUFFIXES) and k not in UNSHOWN))


def panels(keys: Sequence[str]) -> dict[str, list[str]]:
    """Chart name -> its metrics: `chosen_X` stands with `rejected_X`, and `prefix/...` with its like."""
    found: dict[str, list[str]] = {}
    for key in keys:
        for side, other in SIDES:
            if key.startswith(side) and other + key.removeprefix(side) in keys:
                found.setdefault(key.removeprefix(side), []).append(key)
                break
        else:
            name = "seconds" if key.startswith("seconds_") else TOGETHER.get(key, key.split("/")[0])
            found.setdefault(name, []).append(key)
    order = [k for k in FIRST if k in found] + [k for k in found if k not in FIRST]
    return {k: sorted(found[k]) if k in ("rewards", "logps") else found[k] for k in order}


def is_pairwise(run: Run) -> bool:
    """Whether accuracy is that of choosing between two, so that chance is one half."""
    return "margin" in plain_keys(run)


def curves(run: Run) -> str:
    """All charts of one run."""
    own = {name: _own(run, name, keys) for name, keys in panels(plain_keys(run)).items()}
    return _arranged({FRONTIER: frontier([run])} | own, _note([run]))


def overlaid(runs: Sequence[Run]) -> str:
    """The metrics that several runs share, one colour a run, training as a line and validation as rings."""
    keys = list(dict.fromkeys(k for run in runs for k in plain_keys(run)))
    drawn: dict[str, str] = {}
    for key in sorted(keys, key=lambda k: FIRST.index(k) if k in FIRST else len(FIRST)):
        series = [s for slot, run in enumerate(runs) for s in _both(run, key, slot, run.name, "")]
        if len({s.slot for s in series}) > 1:
            drawn[key] = chart(_spec(_what(runs, key), series, key, None))
    return _arranged({FRONTIER: frontier(runs)} | drawn, _note(runs))


def frontier(runs: Sequence[Run]) -> str:
    """What was earned at which distance from the reference: a ring for each experience, a colour for each run."""
    series = []
    for slot, run in enumerate(runs):
        kl = dict(run.curve("kl"))
        dots = [(kl[step], reward, None) for step, reward in run.curve("reward") if step in kl]
        if dots:
            series.append(Series(label=run.name if len(runs) > 1 else "an experience", slot=slot % 8, dots=dots))
    if not series:
        return ""
    return chart(Chart(title="Reward against KL, nats a completion", series=series, across="KL"))


def _arranged(drawn: dict[str, str], note: str) -> str:
    drawn = {k: v for k, v in drawn.items() if v}
    main = "".join(v for k, v in drawn.items() if k in FIRST)
    rest = "".join(v for k, v in drawn.items() if k not in FIRST)
    main, rest = (main, rest) if main else (rest, "")
    more = folded("More curves", f'<div class="grid">{rest}</div>' if rest else "")
    return f'<div class="grid">{main}</div>{note}{more}' if main else ""


def _note(runs: Sequence[Run]) -> str:
    window = max((window_of(len(run.curve(k))) for run in runs for k in plain_keys(run)), default=1)
    if window == 1:
        return ""
    words = f"Strong lines are moving averages over up to {window} steps; the faint ones are every step."
    words += " Rings are evaluations on held-out rows, with one standard error." if len(runs) > 1 else ""
    return f'<p class="note">{words}</p>'


def _own(run: Run, name: str, keys: Sequence[str]) -> str:
    series: list[Series] = []
    for slot, key in enumerate(keys):
        if len(keys) == 1:
            series += _both(run, key, slot, "training", "validation")
        else:
            short = key.removesuffix(f"_{name}").removeprefix(f"{name}/")
            series += _both(run, key, slot, short, f"{short}, validation")
    guide = (0.5, "chance") if name == "accuracy" and is_pairwise(run) else None
    return chart(_spec(_what([run], name), series, name, guide)) if series else ""


def _both(run: Run, key: str, slot: int, name: str, evaluated: str) -> list[Series]:
    """The training line and the evaluations of one metric; those without a name are not in the legend."""
    line = run.curve(key)
    dots = [(step, m.value, m.stderr) for step, m in run.evaluations(key)]
    found = [Series(label=name, slot=slot % 8, line=line, smoothed=key not in EXACT)] if line else []
    if dots:
        errors = " ± standard error" if any(e for _, _, e in dots) else ""
        shown = f"{evaluated}{errors}" if evaluated else ""
        found.append(Series(label=shown, slot=slot % 8, dots=dots))
    return found


def _what(runs: Sequence[Run], key: str) -> About:
    """What is drawn in a chart, with its name in words: what one of the runs says of it, or the table."""
    found = next((run.about[key] for run in runs if key in run.about), about(key))
    return dataclasses.replace(found, label=found.title or label(key), unit="")


def _spec(what: About, series: list[Series], key: str, guide: tuple[float, str] | None) -> Chart:
    values = np.concatenate([Curve.of(some).values for s in series for some in (s.line, [d[:2] for d in s.dots])])
    low, high, middle = float(values.min()), float(values.max()), float(np.median(values))
    log = key == "grad_norm" and low > 0 and high > 20 * middle
    share = what.share and low >= 0 and high <= 1
    title = f"{what.label}, logarithmic" if log else what.label
    return Chart(title=title, series=series, share=share, log=log, zero=what.zero, guide=guide)


# ---- weights of sources ---------------------------------------------------------------------------------------------

WEIGHTS = "weights/"  # of a metric: the weight of one source
COUNT = "effective_sources"
EXPLAINED = (
    "Weights are those that each step was made with; they add up to 100 %. The effective number of sources is exp(H): "
    "as many sources of equal weight would be as mixed. The gap is the loss of a source under the policy, which also "
    "learns from the trusted rows, less that under its twin, which does not: the larger it is, the more a source "
    "stands against them."
)


def learned_weights(run: Run) -> dict[str, str]:
    """Source -> the metric of its weight."""
    return {key.removeprefix(WEIGHTS): key for key in run.metrics() if key.startswith(WEIGHTS) and run.curve(key)}


def weights_section(run: Run) -> str:
    found = learned_weights(run)
    if not found or len({len(run.curve(key)) for key in found.values()}) > 1:
        return ""
    shares = [Series(label=name, slot=i, line=run.curve(key)) for i, (name, key) in enumerate(found.items())]
    drawn = stacked("Weights of the sources", shares)
    if count := run.curve(COUNT):
        series = [Series(label=COUNT, slot=0, line=count)]
        drawn += chart(Chart(title="Effective number of sources", series=series, guide=(len(found), "all alike")))
    rows = [[escape(name), *_weighed(run, name, key)] for name, key in found.items()]
    head = ["Source", "Weight", "Gap of its loss, last quarter"]
    return f'<div class="grid">{drawn}</div>{table(head, rows)}<p class="note">{EXPLAINED}</p>'


def _weighed(run: Run, name: str, key: str) -> list[str]:
    weight = run.curve(key)[-1][1]
    gaps = gaps_of(run, name)
    mean = sum(gaps) / len(gaps) if gaps else None
    return [exact(weight, f"{100 * weight:.1f} %"), "" if mean is None else exact(mean, short(mean))]


def gaps_of(run: Run, name: str) -> list[float]:
    """Loss under the policy less that under the twin, in the last quarter of the steps that had such rows."""
    twin = dict(run.curve(f"twin/{name}"))
    both = [value - twin[step] for step, value in run.curve(f"sources/{name}") if step in twin]
    return both[-max(1, len(both) // 4) :] if both else []
