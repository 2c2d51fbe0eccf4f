"""Several runs side by side: what they reached, how they differ, the same prompts answered by each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from markupsafe import Markup

from align.report.alike import alike
from align.report.curves import overlaid
from align.report.findings import findings
from align.report.folder import Run
from align.report.headline import compare, headline, paired, points, told
from align.report.measured.standings import ranking
from align.report.measured.values import values_compared
from align.report.measures import Measure
from align.report.parts.blocks import Block, Lines, Section, Table, Words, note
from align.report.samples import FOLDED_CARDS, SHOWN_CARDS, card, more_cards
from align.report.sections import finals, flat, is_percent, opening, run_sections
from align.report.state import standing
from align.report.text import exact, label, listed, said

OUTPUTS = ("training.output_dir",)  # differs always and says nothing
SMALL = Markup('<br><span class="note">{}</span>')
OTHER_SPLIT = "No difference is shown where one run was measured on test rows and the other on validation rows."
OTHER_QUANTITY = (
    "No difference is shown where the runs mean different quantities by a name: a loss is one of its method and the "
    "method's settings, a reward one of its functions, an entropy one of tokens given or written."
)
PAIRED = "Paired ones compare the same rows, so their error is that of the row-by-row differences."
UNPAIRED = "Unpaired ones add both errors, which overstates the error where the rows are the same."
Reached = dict[str, tuple[Measure, str]]


def comparable(runs: Sequence[Run]) -> list[Run]:
    """Per-row values are kept only where the rows are known to be the same: by their ids, or by equal data settings."""
    return [run if _same_data(run, runs[0]) else replace(run, test=_without_rows(run.test)) for run in runs]


def _same_data(run: Run, first: Run) -> bool:
    return "data" in run.recipe and run.recipe["data"] == first.recipe.get("data")


def _without_rows(test: dict[str, Measure]) -> dict[str, Measure]:
    return {k: m if m.ids else replace(m, rows=()) for k, m in test.items()}


def comparison(runs: Sequence[Run]) -> list[Section]:
    """The page below its title."""
    return [
        Section(title="Which is best", blocks=ranking(runs) if len(runs) > 2 else []),
        Section(title="Results on held-out rows", blocks=_results(runs)),
        Section(title="Settings that differ", blocks=_settings(runs)),
        Section(title="Curves", blocks=overlaid(runs)),
        Section(title="Values of states", blocks=values_compared(runs)),
        Section(title="The same prompts, answered by each", blocks=_samples(runs)),
        Section(title="Each run by itself", blocks=[], inside=[alone(run) for run in runs]),
    ]


def alone(run: Run, key: str = "") -> Section:
    """A run as a part of a page, folded under its headline and the number of its warnings."""
    lead, told, grave = headline(run), standing(run), sum(f.grave for f in findings(run))
    warned = [said('<span class="warn">{} {}</span>', grave, "warning" if grave == 1 else "warnings")] if grave else []
    return Section(
        title=f"{run.name} ({told})" if told else run.name, key=key, lead=[*lead[:1], *warned], open=False,
        blocks=[*map(Words, lead[1:]), *opening(run)], inside=run_sections(run),
    )  # fmt: skip


def strongest(runs: Sequence[Run]) -> list[Block]:
    """The strongest sentence of each run."""
    first, lines = finals(runs[0]).get("accuracy"), list[str]()
    for slot, run in enumerate(runs):
        own, ahead = finals(run).get("accuracy"), ""
        if slot and own and first and own[1] == first[1] and alike("accuracy", run, runs[0]):
            gap = compare(own[0], first[0])
            how = "row by row" if paired(own[0], first[0]) else "unpaired"
            ahead = said(" {} points from {}, {}.", exact(gap.value, points(gap)), runs[0].name, how)
        lines.append(said("{}: {}{}", _name(slot, run), headline(run)[0], ahead))
    return [Lines(lines)]


def _name(slot: int, run: Run) -> Markup:
    return said('<span class="c{}"><i class="swatch"></i></span>{}', slot % 8, run.name)


def _results(runs: Sequence[Run]) -> list[Block]:
    """One row a metric, one column a run, and for all but the first the difference from the first."""
    reached = [finals(run) for run in runs]
    keys = list(dict.fromkeys(k for found in reached for k in found))
    remarks: set[str] = set()
    rows = [
        [label(key), *(_cell(key, slot, runs, reached, remarks) for slot in range(len(runs)))] for key in keys
    ]  # fmt: skip
    notes = [f"Differences are from {runs[0].name}."] if remarks & {PAIRED, UNPAIRED} else []
    notes += sorted(remarks)
    head = ["", *(_name(slot, run) for slot, run in enumerate(runs))]
    return [Table(head=head, rows=rows), *([note(" ".join(notes))] if notes else [])] if rows else []


def _cell(key: str, slot: int, runs: Sequence[Run], reached: Sequence[Reached], remarks: set[str]) -> Markup:
    if key not in reached[slot]:
        return Markup("")
    measure, split = reached[slot][key]
    shown = said('{} <span class="note">{}</span>', told(measure, key), split)
    if slot == 0 or key not in reached[0]:
        return shown
    reference, reference_split = reached[0][key]
    if not alike(key, runs[slot], runs[0]):
        remarks.add(OTHER_QUANTITY)
        return shown
    if split != reference_split:
        remarks.add(OTHER_SPLIT)
        return shown
    gap, share = compare(measure, reference), is_percent(key, measure)
    if gap.value == 0 and gap.stderr == 0:  # a baseline, which is the same for all
        return shown
    kind = "paired" if paired(measure, reference) else "unpaired"
    remarks.add(PAIRED if kind == "paired" else UNPAIRED)
    words = exact(gap.value, points(gap, 100 if share else 1))
    return shown + said(SMALL, said("{}{}, {}", words, " points" if share else "", kind))


def _settings(runs: Sequence[Run]) -> list[Block]:
    settings = [flat(run.recipe) for run in runs]
    if not any(settings):
        return []
    rows: list[list[str]] = []
    for key in dict.fromkeys(k for s in settings for k in s if k not in OUTPUTS):
        values = [s.get(key) for s in settings]
        if len(set(values)) > 1:
            rows.append([key, *(said("<i>not set</i>") if v is None else v for v in values)])
    if not rows:
        return [Words("None: the recipes are the same.")]
    return [Table(head=["Setting", *(_name(slot, run) for slot, run in enumerate(runs))], rows=rows, code=True)]


def _samples(runs: Sequence[Run]) -> list[Block]:
    """Prompts that at least two runs answered after training, in the first one's order."""
    last = [{s.prompt: s for s in sorted(run.samples, key=lambda s: s.step) if s.stage != "before"} for run in runs]
    prompts = dict.fromkeys(p for found in last for p in found)
    shared = [p for p in prompts if sum(p in found for found in last) > 1][: SHOWN_CARDS + FOLDED_CARDS]
    cards = [
        card(p, [(run.name, found[p]) for run, found in zip(runs, last, strict=True) if p in found]) for p in shared
    ]
    return [*cards[:SHOWN_CARDS], *more_cards(cards[SHOWN_CARDS:])]


def title(runs: Sequence[Run]) -> str:
    return listed([run.name for run in runs])
