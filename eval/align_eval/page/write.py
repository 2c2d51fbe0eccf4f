"""One self-contained HTML page for an evaluation's folder: results.json as drawings and tables, and a browser of items.

The page carries its style, script, drawings and data; it asks for nothing from anywhere, and its content security
policy forbids it to. Everything that comes from models and data is escaped by the template, and characters that steer,
hide or reorder others are made visible.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import BaseLoader, Environment, StrictUndefined
from markupsafe import Markup

from align.report.page import packaged, policy, save
from align.report.sections import flat
from align.system.terminal import visible
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
SCRIPTS = ("reading.js", "page.js")  # one after the other


def report(folder: Path, out: Path | None = None) -> Path:
    """Writes `folder`/report.html, or `out`, and returns its path. UserError: no results, or it cannot be written."""
    target = out or folder / NAME
    save(target, page(read(folder), whole(folder)))
    return target


def page(found: Results, evaluation: Evaluation) -> str:
    """The whole document."""
    script = "\n".join(packaged(f"templates/{name}", "align_eval.page") for name in SCRIPTS)
    first = next((p for p in found.sections.pairs), None)
    order = [row.model for row in found.sections.leaderboard] or [str(model["name"]) for model in found.models]
    items = browser(evaluation, (first.a, first.b) if first else (), order)
    drawn, of_lengths = by_length(found.sections.pairs, evaluation)
    told = [*((TITLES.get(t.name, t.name), t.methods) for t in tables(found)), ("Win rate by length", of_lengths)]
    return _template().render(
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
        policy=policy(script),
        style=Markup(packaged("page.css") + packaged("templates/page.css", "align_eval.page")),
        script=Markup(script),
    )


def _parts(found: Results, drawn: Sequence[Markup]) -> dict[str, Any]:
    rows = found.sections
    return {
        "leaderboard": sections.leaderboard(rows.leaderboard) if rows.leaderboard else None,
        "lengths": [d for d in [sections.lengths(rows.leaderboard), *drawn] if d],
        "pairs": sections.pairs(rows.pairs),
        "scores": sections.scores(rows.scores),
        "differences": sections.differences(rows.differences),
        "categories": sections.categories(found),
        "judges": sections.judges(found),
        "agreement": sections.agreement(found),
        "frontier": sections.frontier(found),
    }


def _template() -> Any:
    environment = Environment(
        loader=_Packaged(),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    return environment.get_template("page.html.j2")


class _Packaged(BaseLoader):
    """Templates of this package, wherever it is installed."""

    def get_source(self, environment: Environment, template: str) -> tuple[str, None, Any]:
        return packaged(f"templates/{template}", "align_eval.page"), None, lambda: True


def _shown(value: Any) -> Any:
    """Runs before the escaping: what is no markup of ours is made visible."""
    return visible(value) if isinstance(value, str) and not hasattr(value, "__html__") else value

