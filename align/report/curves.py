"""Which charts a run is shown by. The known metrics come first, every other one follows in its own chart."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from align.methods.metrics import About, about
from align.report.alike import kin
from align.report.folder import Run
from align.report.parts.blocks import Block, figures, fold, note
from align.report.parts.charts import Chart, Series, chart
from align.report.parts.figures import Figure
from align.report.parts.points import Curve, window_of
from align.report.text import label, listed

QUALITY = ("reward", "kl", "loss", "accuracy", "token_accuracy", "margin", "rewards", "logps", "entropy")
REWARD = "rewards/"  # of a metric: what one function says, in units of its own
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
    """Chart name -> its metrics, all in one unit: `chosen_X` stands with `rejected_X`, `prefix/...` with its like.

    Rewards of different functions do not stand together: nothing says that their numbers mean the same.
    """
    found: dict[str, list[str]] = {}
    for key in keys:
        for side, other in SIDES:
            if key.startswith(side) and other + key.removeprefix(side) in keys:
                found.setdefault(key.removeprefix(side), []).append(key)
                break
        else:
            group = key if key.startswith(REWARD) else key.split("/")[0]
            name = "seconds" if key.startswith("seconds_") else TOGETHER.get(key, group)
            found.setdefault(name, []).append(key)
    order = sorted(found, key=_rank)
    return {k: sorted(found[k]) if k in ("rewards", "logps") else found[k] for k in order}


def _rank(name: str) -> int:
    """Where a chart stands: known metrics first, each function's reward behind the sum of them."""
    known = "reward" if name.startswith(REWARD) else name
    return FIRST.index(known) if known in FIRST else len(FIRST)


def is_pairwise(run: Run) -> bool:
    """Whether accuracy is that of choosing between two, so that chance is one half."""
    return "margin" in plain_keys(run)


def curves(run: Run) -> list[Block]:
    """All charts of one run."""
    own = {name: _own(run, name, keys) for name, keys in panels(plain_keys(run)).items()}
    return _arranged({FRONTIER: frontier([run])} | own, [run])


def overlaid(runs: Sequence[Run]) -> list[Block]:
    """The metrics that several runs share, one colour a run, training as a line and validation as rings.

    Runs whose numbers of a name are not the same quantity have a chart for each that is.
    """
    keys = sorted(dict.fromkeys(k for run in runs for k in plain_keys(run)), key=_rank)
    drawn: dict[str, list[Figure]] = {FRONTIER: frontier(runs)}
    apart: list[str] = []
    for key in keys:
        having = [(slot, run) for slot, run in enumerate(runs) if run.curve(key) or run.evaluations(key)]
        groups = kin(key, having)
        drawn[key] = [_together(key, of, len(groups) > 1) for of in groups if len(of) > 1]
        if len(groups) > 1:
            apart.append(f"{label(key)} ({'; '.join(listed([run.name for _, run in of]) for of in groups)})")
    told = f"Not drawn on one axis, because the runs mean different quantities by it: {', '.join(apart)}."
    return [*_arranged(drawn, runs), *([note(told)] if apart else [])]


def _together(key: str, runs: Sequence[tuple[int, Run]], named: bool) -> Figure:
    series = [s for slot, run in runs for s in _both(run, key, slot, run.name, "")]
    what = _what([run for _, run in runs], key)
    if named:
        what = dataclasses.replace(what, label=f"{what.label}: {listed([run.name for _, run in runs])}")
    return chart(_spec(what, series, key, None))


def frontier(runs: Sequence[Run]) -> list[Figure]:
    """What was earned at which distance from the reference: a ring for each experience, a colour for each run."""
    found: list[Figure] = []
    for group in kin("reward", [(slot, run) for slot, run in enumerate(runs) if run.curve("kl")]):
        series: list[Series] = []
        for slot, run in group:
            kl = dict(run.curve("kl"))
            if dots := [(kl[step], reward, None) for step, reward in run.curve("reward") if step in kl]:
                name = run.name if len(runs) > 1 else "an experience"
                series.append(Series(label=name, slot=slot % 8, dots=dots))
        if series:
            found.append(chart(Chart(title="Reward against KL, nats a completion", series=series, across="KL")))
    return found


def _arranged(drawn: Mapping[str, Sequence[Figure]], runs: Sequence[Run]) -> list[Block]:
    """Known metrics first, the others folded; so is what a function says that is the only one, and thus the reward."""
    functions = [name for name in drawn if name.startswith(REWARD)]
    first = [name for name in drawn if _rank(name) < len(FIRST) and functions != [name]]
    main = [one for name in first for one in drawn[name]]
    rest = [one for name, some in drawn.items() if name not in first for one in some]
    main, rest = (main, rest) if main else (rest, [])
    return [*figures(main, tools=True), *(_note(runs) if main else []), *fold("More curves", figures(rest, tools=True))]


def _note(runs: Sequence[Run]) -> list[Block]:
    window = max((window_of(len(run.curve(k))) for run in runs for k in plain_keys(run)), default=1)
    if window == 1:
        return []
    words = f"Strong lines are moving averages over up to {window} steps; the faint ones are every step."
    words += " Rings are evaluations on held-out rows, with one standard error." if len(runs) > 1 else ""
    return [note(words)]


def _own(run: Run, name: str, keys: Sequence[str]) -> list[Figure]:
    series: list[Series] = []
    for slot, key in enumerate(keys):
        if len(keys) == 1:
            series += _both(run, key, slot, "training", "validation")
        else:
            side = key.removesuffix(f"_{name}").removeprefix(f"{name}/")
            series += _both(run, key, slot, side, f"{side}, validation")
    guide = (0.5, "chance") if name == "accuracy" and is_pairwise(run) else None
    what = _what([run], keys[0] if len(keys) == 1 else name)
    sides = [side.removesuffix("_") for side, _ in SIDES if f"{side}{name}" in keys]
    if sides:
        what = dataclasses.replace(what, label=f"{label(f'of/{name}')} of {listed(sides)}")
    elif name.startswith(REWARD):
        what = dataclasses.replace(what, label=f"Reward by {name.removeprefix(REWARD)}")
    return [chart(_spec(what, series, name, guide))] if series else []


def _both(run: Run, key: str, slot: int, name: str, evaluated: str) -> list[Series]:
    """The training line and the evaluations of one metric; those without a name are not in the legend."""
    line = run.curve(key)
    dots = [(step, m.value, m.stderr) for step, m in run.evaluations(key)]
    found = [Series(label=name, slot=slot % 8, line=line, smoothed=key not in EXACT)] if line else []
    if dots:
        errors = " ± standard error" if any(e for _, _, e in dots) else ""
        shown = f"{evaluated or f'{name}, validation'}{errors}"
        found.append(Series(label=shown, slot=slot % 8, dots=dots, listed=bool(evaluated)))
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
