"""Several runs side by side: what they reached, how they differ, the same prompts answered by each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from align.report.curves import overlaid
from align.report.folder import Run
from align.report.headline import compare, headline, paired, points, told
from align.report.measures import Measure
from align.report.sections import SHOWN_SAMPLES, card, finals, flat, is_percent, lead, run_body
from align.report.text import escape, exact, label, listed, part, table
from align.report.values import values_compared

OUTPUTS = ("training.output_dir",)  # differs always and says nothing


def comparable(runs: Sequence[Run]) -> list[Run]:
    """Per-row values are kept only where the rows are known to be the same: by their ids, or by equal data settings."""
    return [run if _same_data(run, runs[0]) else replace(run, test=_without_rows(run.test)) for run in runs]


def _same_data(run: Run, first: Run) -> bool:
    return "data" in run.recipe and run.recipe["data"] == first.recipe.get("data")


def _without_rows(test: dict[str, Measure]) -> dict[str, Measure]:
    return {k: m if m.ids else replace(m, rows=()) for k, m in test.items()}


def comparison(runs: Sequence[Run]) -> str:
    """The body of the page below its title."""
    return "".join(
        (
            part("Results on held-out rows", _results(runs), 2),
            part("Settings that differ", _settings(runs), 2),
            part("Curves", overlaid(runs), 2),
            part("Values of states", values_compared(runs), 2),
            part("The same prompts, answered by each", _samples(runs), 2),
            part("Each run by itself", "".join(_alone(run) for run in runs), 2),
        )
    )


def opening(runs: Sequence[Run]) -> str:
    """The strongest sentence of each run."""
    reached = [finals(run).get("accuracy") for run in runs]
    lines = ""
    for slot, run in enumerate(runs):
        own, first, ahead = reached[slot], reached[0], ""
        if slot and own and first and own[1] == first[1]:
            gap = compare(own[0], first[0])
            how = "row by row" if paired(own[0], first[0]) else "unpaired"
            ahead = f" {exact(gap.value, points(gap))} points from {escape(runs[0].name)}, {how}."
        lines += f"<li>{_name(slot, run)}: {headline(run)[0]}{ahead}</li>"
    return f'<ul class="runs">{lines}</ul>'


def _name(slot: int, run: Run) -> str:
    return f'<span class="c{slot % 8}"><i class="swatch"></i></span>{escape(run.name)}'


def _results(runs: Sequence[Run]) -> str:
    """One row a run, one column a metric, and for all but the first the difference from the first."""
    reached = [finals(run) for run in runs]
    keys = list(dict.fromkeys(k for found in reached for k in found))
    if not keys:
        return ""
    rows: list[list[str]] = []
    remarks: set[str] = set()
    for slot, run in enumerate(runs):
        cells = [_cell(key, reached[slot], reached[0] if slot else None, remarks) for key in keys]
        rows.append([_name(slot, run), *cells])
    notes = [f"Differences are from {runs[0].name}.", *sorted(remarks)] if remarks else []
    note = f'<p class="note">{escape(" ".join(notes))}</p>' if notes else ""
    return table(["Run", *(escape(label(k)) for k in keys)], rows) + note


Reached = dict[str, tuple[Measure, str]]


def _cell(key: str, own: Reached, first: Reached | None, remarks: set[str]) -> str:
    if key not in own:
        return ""
    measure, split = own[key]
    where = f' <span class="note">{split}</span>'
    if first is None or key not in first:
        return told(measure, key) + where
    reference, reference_split = first[key]
    if split != reference_split:
        remarks.add("None is shown where one run was measured on test rows and the other on validation rows.")
        return told(measure, key) + where
    gap, share = compare(measure, reference), is_percent(key, measure)
    if gap.value == 0 and gap.stderr == 0:  # a baseline, which is the same for all
        return told(measure, key) + where
    words = points(gap, 100 if share else 1)
    kind = "paired" if paired(measure, reference) else "unpaired"
    if kind == "paired":
        remarks.add("Paired ones compare the same rows, so their error is that of the row-by-row differences.")
    else:
        remarks.add("Unpaired ones add both errors, which overstates the error where the rows are the same.")
    unit = " points" if share else ""
    return f'{told(measure, key)}{where}<br><span class="note">{exact(gap.value, words)}{unit}, {kind}</span>'


def _settings(runs: Sequence[Run]) -> str:
    settings = [flat(run.recipe) for run in runs]
    keys = dict.fromkeys(k for s in settings for k in s if k not in OUTPUTS)
    rows: list[list[str]] = []
    for key in keys:
        values = [s.get(key) for s in settings]
        if len(set(values)) > 1:
            cells = ["<i>not set</i>" if v is None else f"<code>{escape(v)}</code>" for v in values]
            rows.append([f"<code>{escape(key)}</code>", *cells])
    if not any(settings):
        return ""
    if not rows:
        return "<p>None: the recipes are the same.</p>"
    return table(["Setting", *(_name(slot, run) for slot, run in enumerate(runs))], rows, kind="wide")


def _samples(runs: Sequence[Run]) -> str:
    """Prompts that at least two runs answered after training, in the first one's order."""
    last = [{s.prompt: s for s in sorted(run.samples, key=lambda s: s.step) if s.stage != "before"} for run in runs]
    prompts = dict.fromkeys(p for found in last for p in found)
    shared = [p for p in prompts if sum(p in found for found in last) > 1][:SHOWN_SAMPLES]
    return "".join(
        card(p, [(run.name, found[p]) for run, found in zip(runs, last, strict=True) if p in found]) for p in shared
    )


def _alone(run: Run) -> str:
    body = f"{lead(run)}{run_body(run, 3)}"
    return f"<details><summary>{escape(run.name)}</summary>{body}</details>"


def title(runs: Sequence[Run]) -> str:
    return listed([run.name for run in runs])
