"""Scores of checkpoints on tasks, as `align-eval run --checkpoints` has left them in the run's evaluations/."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from align.errors import UserError
from align.report.measures import drawable, number
from align.report.svg import Chart, Dot, Series, chart
from align.report.text import escape, exact, folded, short, table
from align.system.lines import read_lines

FILE = "evaluations/checkpoints.jsonl"
EXPLAINED = "Step 0 is what training began with. Whiskers are intervals of the level and method in the table."
Rows = Sequence[Mapping[str, Any]]


def task_scores_section(path: Path) -> str:
    """Nothing for a run whose checkpoints were not scored. The first metric of a task is drawn, the others folded."""
    file, told = path / FILE, list[str]()
    if not file.is_file():
        return ""
    try:
        rows = [row for _, row in read_lines(file, told.append) if isinstance(number(row.get("step")), float | int)]
    except UserError as error:
        return f'<p class="note">{escape(error)}</p>'
    groups: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
    for row in sorted(rows, key=lambda row: float(row["step"])):
        groups.setdefault(str(row.get("task")), {}).setdefault(str(row.get("metric")), []).append(row)
    first = {task: next(iter(metrics)) for task, metrics in groups.items()}
    main = "".join(_drawn(task, first[task], groups[task][first[task]]) for task in groups)
    rest = "".join(_drawn(t, m, of) for t, metrics in groups.items() for m, of in metrics.items() if m != first[t])
    more = folded("More metrics", f'<div class="grid">{rest}</div>') if rest else ""
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in told)
    shown = _table([row for task in groups for row in groups[task][first[task]]])
    return f'<div class="grid">{main}</div>{shown}<p class="note">{EXPLAINED}</p>{more}{notes}'


def _drawn(task: str, metric: str, rows: Rows) -> str:
    dots: list[Dot] = []
    for row in rows:
        value, low, high = (number(row.get(key)) for key in ("value", "low", "high"))
        if value is not None and drawable(value):
            dots.append((float(row["step"]), value, None if low is None or high is None else (low, high)))
    if not dots:
        return ""
    series = [Series(label=metric, slot=0, dots=dots)]
    return chart(Chart(title=f"{task}: {metric}", series=series, share=rows[0].get("unit") == "share"))


def _table(rows: Rows) -> str:
    head = ["Task", "Metric", "Step", "Value", "Interval", "n", "Method"]
    return table(head, [_told(row) for row in rows])


def _told(row: Mapping[str, Any]) -> list[str]:
    value, low, high, level = (number(row.get(key)) for key in ("value", "low", "high", "level"))
    share = row.get("unit") == "share"

    def words(found: float) -> str:
        return f"{100 * found:.1f} %" if share else short(found)

    shown = f"missing: {escape(row.get('why') or '')}" if value is None else exact(value, words(value))
    interval = "" if low is None or high is None else f"{words(low)} to {words(high)}"
    method = f"{100 * (level or 0):g} %, {row.get('method')}" if interval else ""
    count = f"{int(number(row.get('n')) or 0):,}"
    return [escape(row.get("task")), escape(row.get("metric")), f"{float(row['step']):,.0f}", shown, interval, count,
            escape(method)]  # fmt: skip
