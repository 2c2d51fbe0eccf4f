"""`summary.json` of a pipeline: the few numbers that its runs were made for, taken from their test splits."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from align.errors import Mistakes, UserError, did_you_mean
from align.report.folder import read_run
from align.report.headline import ends
from align.system.files import write_json

PARTS = ("before", "baselines")  # of a test.json, beside its own numbers


def summarise(folder: Path, wanted: Sequence[str]) -> Path:
    """Writes `folder`/summary.json from `NAME=RUN[,RUN...]:METRIC` words and returns its path.

    Of several runs, such as three seeds, it is their mean; they are told on the same rows, so its error is that of the
    rows' own means over the runs, and says nothing about other seeds. METRIC is a name in RUN's test.json;
    `before/METRIC` and `baselines/METRIC` reach into those parts of it, and `training/METRIC` is the mean of the last
    tenth of its lines in metrics.jsonl. Each number keeps its `value`, `stderr` and `n`; numbers that were there under
    other names stay. Raises Mistakes.
    """
    mistakes: list[str] = []
    found: dict[str, Any] = {}
    for word in wanted:
        try:
            name, _, place = word.partition("=")
            found[name] = _number(folder, word, *place.split(":", 1)) if ":" in place else _malformed(word)
        except UserError as error:
            mistakes.append(str(error))
    if mistakes:
        raise Mistakes(mistakes)
    path = folder / "summary.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    write_json(path, before | found)
    return path


def evaluations(folder: Path) -> Iterator[tuple[str, str]]:
    """Title and place, from `folder`, of the pages that `align-eval report` has written in it."""
    for results in sorted(folder.glob("*/results.json")):
        page = results.with_name("report.html")
        if page.is_file():
            with suppress(OSError, ValueError, LookupError, TypeError, RecursionError):  # the page itself is there
                title = json.loads(results.read_text(encoding="utf-8"))["title"]
                yield str(title), f"{results.parent.name}/{page.name}"


def lines(path: Path) -> Iterator[str]:
    """Each number of a summary.json with its standard error."""
    for name, found in json.loads(path.read_text(encoding="utf-8")).items():
        error = "" if found["stderr"] is None else f" ± {found['stderr']:.3f}"
        yield f"{name} {found['value']:.3f}{error} ({found['n']} {found.get('unit', 'rows')})"


def _malformed(word: str) -> dict[str, Any]:
    raise UserError(f"{word}: expected NAME=RUN:METRIC, such as dpo_accuracy=dpo:accuracy")


def _number(folder: Path, word: str, runs: str, metric: str) -> dict[str, Any]:
    found = [_measure(folder, word, run, metric) for run in runs.split(",")]
    if len(found) == 1:
        return {key: found[0][key] for key in ("value", "stderr", "n", "unit") if key in found[0]}
    rows = [measure.get("rows") or [] for measure in found]
    if len({len(r) for r in rows}) > 1 or len(rows[0]) < 2:
        raise UserError(f"{word}: the runs were not told on the same rows, so they have no common mean")
    means = [statistics.fmean(of_row) for of_row in zip(*rows, strict=True)]
    error = statistics.stdev(means) / math.sqrt(len(means))
    return {"value": statistics.fmean(m["value"] for m in found), "stderr": error, "n": len(means), "runs": len(found)}


def _measure(folder: Path, word: str, run: str, metric: str) -> dict[str, Any]:
    if metric.startswith("training/"):
        return _at_the_end(word, folder / run, metric.removeprefix("training/"))
    path = folder / run / "test.json"
    if not path.exists():
        raise UserError(f"{word}: {path} is not there; the run must have ended, and had a test split")
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    values, name = _inside(values, metric)
    if name not in values:
        raise UserError(f"{word}: {path} has no {metric}; there are {', '.join(values)}.{did_you_mean(name, values)}")
    measure = values[name]
    if not isinstance(measure, dict) or not {"value", "stderr", "n"} <= measure.keys():
        raise UserError(f"{word}: {path}: {metric} has no value, stderr and n")
    return measure


def _inside(values: dict[str, Any], metric: str) -> tuple[dict[str, Any], str]:
    """Where a metric is to be found, and its name there; names have a / of their own, as rewards/contains has."""
    part, _, rest = metric.partition("/")
    inner = values.get(part)
    if metric in values or not rest or part not in PARTS or not isinstance(inner, dict):
        return values, metric
    return inner, rest


def _at_the_end(word: str, folder: Path, metric: str) -> dict[str, Any]:
    """What a metric of training came to; its error is that of the mean of these lines."""
    line = read_run(folder).curve(metric)
    if not line:
        raise UserError(f"{word}: {folder / 'metrics.jsonl'} has no {metric}; the run must have ended")
    last = ends(line)[1]
    return {"value": last.value, "stderr": last.stderr, "n": last.n, "unit": "steps"}
