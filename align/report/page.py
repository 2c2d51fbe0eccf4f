"""One self-contained HTML page for a run, for a pipeline of runs, or for several runs side by side.

The page carries its style, its scripts and its drawings. Without scripts all of it can be read, and a curve's values
stand beside it; with them curves are read, zoomed and smoothed, and completions searched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from align.errors import UserError
from align.report.compare import alone, comparable, comparison, strongest, title
from align.report.folder import Pipeline, Run, read
from align.report.headline import headline
from align.report.parts.blocks import Block, Lines, Notices, Section
from align.report.parts.frame import render, save
from align.report.pipeline import evaluations
from align.report.sections import opening, run_sections, tiles
from align.report.state import standing
from align.report.text import said

SCRIPTS = ("shared.js", "folds.js", "charts.js", "finder.js")  # one after the other


@dataclass(frozen=True, kw_only=True)
class Page:
    """What the template sets."""

    heading: str
    eyebrow: str  # what kind of page it is
    lead: Sequence[str] = ()  # sentences
    top: Sequence[Block] = ()
    sections: Sequence[Section] = ()
    watched: int = 0  # seconds after which a browser reads it anew; 0: never


def write(runs: list[Path], out: Path | None = None, *, watched: int = 0) -> Path:
    """Writes the page and returns where it is.

    One run, one pipeline folder (runs as subfolders, and summary.json) or one sweep gets report.html inside itself;
    several are compared in comparison.html of the folder that holds the first. `out` says otherwise. UserError: a
    folder without a run, or a page that cannot be written.
    """
    if not runs:
        raise UserError("no run folder given; give one, or several to compare")
    found = [read(path) for path in runs]
    target = out or (runs[0] / "report.html" if len(runs) == 1 else runs[0].resolve().parent / "comparison.html")
    save(target, page(found, watched))
    return target


def page(found: Sequence[Run | Pipeline], watched: int = 0) -> str:
    """The whole document."""
    made = replace(_page(found), watched=watched)
    return render("page.html.j2", SCRIPTS, heading=made.heading, eyebrow=made.eyebrow, page=made)


def _page(found: Sequence[Run | Pipeline]) -> Page:
    if len(found) == 1:
        if not isinstance(only := found[0], Pipeline):
            return _run(only)
        return _sweep(only) if only.sweep and len(only.stages) > 1 else _pipeline(only)
    runs = comparable(_distinct([run for one in found for run in _runs_of(one)]))
    return Page(heading=title(runs), eyebrow="Runs side by side", top=strongest(runs), sections=comparison(runs))


def _sweep(sweep: Pipeline) -> Page:
    runs = comparable(sweep.stages)
    return Page(
        heading=sweep.path.resolve().name,
        eyebrow=f"A sweep: {len(runs)} runs side by side",
        top=_noted(sweep),
        sections=comparison(runs),
    )


def _run(run: Run) -> Page:
    told = standing(run)
    return Page(
        heading=run.name,
        eyebrow=f"A training run, {told}" if told else "A training run",
        lead=headline(run),
        top=opening(run),
        sections=run_sections(run),
    )


def _pipeline(pipeline: Pipeline) -> Page:
    leading = [
        said('<a href="{}">Evaluation: {}</a>', quote(place), title) for title, place in evaluations(pipeline.path)
    ]
    return Page(
        heading=pipeline.path.resolve().name,
        eyebrow="A pipeline of runs",
        top=[*tiles(pipeline.summary), *([Lines(leading)] if leading else []), *_noted(pipeline)],
        sections=[alone(run, f"stage-{i}") for i, run in enumerate(pipeline.stages)],
    )


def _noted(pipeline: Pipeline) -> list[Block]:
    return [Notices([(note, False) for note in pipeline.notes])] if pipeline.notes else []


def _runs_of(one: Run | Pipeline) -> list[Run]:
    if isinstance(one, Run):
        return [one]
    return [replace(run, name=f"{one.path.resolve().name}/{run.name}") for run in one.stages]


def _distinct(runs: Sequence[Run]) -> list[Run]:
    """Runs of one name get their folder's name before it, so that every legend can be told apart."""
    names = [run.name for run in runs]
    parents = [run.path.resolve().parent.name for run in runs]
    return [
        replace(run, name=f"{parent}/{run.name}") if names.count(run.name) > 1 else run
        for run, parent in zip(runs, parents, strict=True)
    ]
