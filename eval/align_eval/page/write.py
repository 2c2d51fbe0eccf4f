"""One self-contained HTML page for an evaluation's folder: results.json as drawings and tables, and a browser of items.

The page carries its style, script, drawings and data; it asks for nothing from anywhere, and its content security
policy forbids it to. Everything that comes from models and data is escaped by the template, and characters that steer,
hide or reorder others are made visible.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from align.report.parts.figures import Figure
from align.report.parts.frame import render, save
from align.report.sections import flat
from align_eval.analysis.evaluation import Evaluation
from align_eval.items import strays, whole
from align_eval.page import sections
from align_eval.page.browser import browser
from align_eval.page.headline import facts, headline
from align_eval.page.lengths import by_length
from align_eval.page.matrix import matrices
from align_eval.results.document import Results
from align_eval.results.reading import read
from align_eval.results.tables import TITLES, tables

NAME = "report.html"
SHOWN_FAILURES = 200
SCRIPTS = ("shared.js", "folds.js", "reading.js", "page.js")  # one after the other; the first two are in all pages


def report(folder: Path, out: Path | None = None) -> Path:
    """Writes `folder`/report.html, or `out`, and returns its path. UserError: no results, or it cannot be written."""
    target = out or folder / NAME
    save(target, page(read(folder), whole(folder)))
    return target


def page(found: Results, evaluation: Evaluation) -> str:
    """The whole document."""
    first = next((p for p in found.sections.pairs), None)
    order = [row.model for row in found.sections.leaderboard] or [str(model["name"]) for model in found.models]
    items = browser(evaluation, (first.a, first.b) if first else (), order)
    drawn, of_lengths = by_length(found.sections.pairs, evaluation)
    told = [*((TITLES.get(t.name, t.name), t.methods) for t in tables(found)), ("Win rate by length", of_lengths)]
    return render(
        "evaluation.html.j2",
        SCRIPTS,
        "align_eval.page",
        heading=found.title,
        eyebrow="An evaluation",
        results=found,
        warnings=list(dict.fromkeys([*found.warnings, *evaluation.warnings, *strays(evaluation)])),
        headline=headline(found),
        facts=facts(found, evaluation),
        parts=_parts(found, drawn),
        matrices=matrices(found),
        failures=found.failures[:SHOWN_FAILURES],
        manifest=flat(found.manifest),
        methods=[(title, methods) for title, methods in told if methods],
        browser=items,
    )


def _parts(found: Results, drawn: Sequence[Figure]) -> dict[str, Any]:
    rows = found.sections
    return {
        "leaderboard": sections.leaderboard(rows.leaderboard) if rows.leaderboard else None,
        "lengths": [*sections.lengths(rows.leaderboard), *drawn],
        "pairs": sections.pairs(rows.pairs),
        "scores": sections.scores(rows.scores),
        "differences": sections.differences(rows.differences),
        "categories": sections.categories(found),
        "judges": sections.judges(found),
        "agreement": sections.agreement(found),
        "styles": sections.styles(found),
        "frontier": sections.frontier(found),
    }
