"""Scores and win rates of checkpoints, as `align-eval run --checkpoints` and `align-eval checkpoints` left them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from align.errors import UserError
from align.report.measures import drawable, number
from align.report.parts.blocks import Block, Table, figures, fold, note
from align.report.parts.charts import Chart, Estimate, Series, chart
from align.report.parts.figures import Figure
from align.report.text import exact, short
from align.system.lines import read_lines

FILE = "evaluations/checkpoints.jsonl"
WIN_RATE = "win rate"  # how metrics of judged checkpoints begin; they are against step 0
EXPLAINED = "Step 0 is what training began with. Whiskers are intervals of the level and method in the table."
Rows = Sequence[Mapping[str, Any]]


HEAD = ("Task", "Metric", "Step", "Value", "Interval", "n", "Method")


def task_scores_section(path: Path) -> list[Block]:
    """Nothing for a run whose checkpoints were not scored. The first metric of a task is drawn, the others folded."""
    file, told = path / FILE, list[str]()
    if not file.is_file():
        return []
    try:
        rows = [row for _, row in read_lines(file, told.append) if isinstance(number(row.get("step")), float | int)]
    except UserError as error:
        return [note(str(error))]
    groups: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
    for row in sorted(rows, key=lambda row: float(row["step"])):
        groups.setdefault(str(row.get("task")), {}).setdefault(str(row.get("metric")), []).append(row)
    first = {task: next(iter(metrics)) for task, metrics in groups.items()}
    main = [(task, first[task], metrics[first[task]]) for task, metrics in groups.items()]
    rest = [(t, m, of) for t, metrics in groups.items() for m, of in metrics.items() if m != first[t]]
    return [
        *figures(drawn for each in main for drawn in _drawn(*each)),
        Table(head=HEAD, rows=[_told(row) for _, _, of in main for row in of]),
        note(EXPLAINED),
        *fold("More metrics", figures(drawn for each in rest for drawn in _drawn(*each))),
        *map(note, told),
    ]


def _drawn(task: str, metric: str, rows: Rows) -> list[Figure]:
    dots: list[Estimate] = []
    for row in rows:
        value, low, high = (number(row.get(key)) for key in ("value", "low", "high"))
        if value is not None and drawable(value):
            dots.append((float(row["step"]), value, None if low is None or high is None else (low, high)))
    if not dots:
        return []
    series = [Series(label=metric, slot=0, dots=dots)]
    guide = (0.5, "no better") if metric.startswith(WIN_RATE) else None
    return [chart(Chart(title=f"{task}: {metric}", series=series, share=rows[0].get("unit") == "share", guide=guide))]


def _told(row: Mapping[str, Any]) -> list[str]:
    value, low, high, level = (number(row.get(key)) for key in ("value", "low", "high", "level"))
    share = row.get("unit") == "share"

    def words(found: float) -> str:
        return f"{100 * found:.1f} %" if share else short(found)

    shown = f"missing: {row.get('why') or ''}" if value is None else exact(value, words(value))
    interval = "" if low is None or high is None else f"{words(low)} to {words(high)}"
    method = f"{100 * (level or 0):g} %, {row.get('method')}" if interval else ""
    count = f"{int(number(row.get('n')) or 0):,}"
    return [str(row.get("task")), str(row.get("metric")), f"{float(row['step']):,.0f}", shown, interval, count, method]
