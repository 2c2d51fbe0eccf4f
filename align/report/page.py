"""One self-contained HTML page for a run, for a pipeline of runs, or for several runs side by side.

The page carries its style, its script and its drawings; it asks for nothing from anywhere, and its content security
policy forbids it to. Text from models and data is escaped (`align.report.text`).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

from align.errors import UserError
from align.report.compare import comparable, comparison, opening, title
from align.report.folder import Pipeline, Run, read
from align.report.headline import headline
from align.report.pipeline import evaluations
from align.report.sections import lead, run_body, tiles
from align.report.text import escape
from align.system.files import replace_file


def write(runs: list[Path], out: Path | None = None) -> Path:
    """Writes the page and returns where it is.

    One run or one pipeline folder (runs as subfolders, and summary.json) gets report.html inside itself; several are
    compared in comparison.html of the folder that holds the first. `out` says otherwise. UserError: a folder without a
    run, or a page that cannot be written.
    """
    if not runs:
        raise UserError("no run folder given; give one, or several to compare")
    found = [read(path) for path in runs]
    target = out or (runs[0] / "report.html" if len(runs) == 1 else runs[0].resolve().parent / "comparison.html")
    save(target, page(found))
    return target


def page(found: Sequence[Run | Pipeline]) -> str:
    """The whole document."""
    if len(found) == 1:
        only = found[0]
        if isinstance(only, Pipeline):
            return _document(only.path.resolve().name, "A pipeline of runs", _pipeline(only))
        return _document(only.name, "A training run", f"{lead(only)}</header>{run_body(only, 2)}")
    runs = comparable(_distinct([run for one in found for run in _runs_of(one)]))
    return _document(title(runs), "Runs side by side", f"{opening(runs)}</header>{comparison(runs)}")


def _pipeline(pipeline: Pipeline) -> str:
    notes = "".join(f"<li>{escape(note)}</li>" for note in pipeline.notes)
    lines = "".join(
        f'<li><a href="#stage-{i}">{escape(run.name)}</a>: {headline(run)[0]}</li>'
        for i, run in enumerate(pipeline.stages)
    )
    lines += "".join(
        f'<li><a href="{escape(quote(place))}">Evaluation: {escape(title)}</a></li>'
        for title, place in evaluations(pipeline.path)
    )
    notes = f'<ul class="notices">{notes}</ul>' if notes else ""
    top = f'<ul class="runs">{lines}</ul>{tiles(pipeline.summary)}{notes}</header>'
    stages = "".join(
        f'<section class="stage" id="stage-{i}"><h2>{escape(run.name)}</h2>{lead(run)}{run_body(run, 3)}</section>'
        for i, run in enumerate(pipeline.stages)
    )
    return top + stages


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


def _document(heading: str, kind: str, body: str) -> str:
    """`body` begins inside the header element and closes it."""
    style, script = packaged("page.css"), packaged("page.js")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy(script)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(heading)} · align report</title><style>{style}</style></head>\n"
        f'<body><main><header><p class="eyebrow">{escape(kind)}</p><h1>{escape(heading)}</h1>{body}'
        "<footer>± is one standard error. The numbers stand in metrics.jsonl and test.json of the run "
        f"folder; point at a curve to read its values.</footer></main>\n<script>{script}</script></body></html>\n"
    )


def policy(script: str) -> str:
    """The content security policy of a page that has this script, and nothing from elsewhere."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; base-uri 'none'"


def packaged(name: str, package: str = "align.report") -> str:
    return files(package).joinpath(name).read_text(encoding="utf-8")


def save(target: Path, text: str) -> None:
    """Whole or not at all: a reader never sees half a page. UserError where it cannot be written."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        replace_file(target, text)
    except OSError as error:
        finding = f"the report cannot be written: {error.strerror}"
        raise UserError(f"{target}: {finding}; name another file with -o") from None
