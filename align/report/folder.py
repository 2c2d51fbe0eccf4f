"""Reads a run folder as it is found: finished, running, killed, or half deleted.

Whatever cannot be read becomes a note on the page. Only a folder that holds no run at all is the user's mistake.

    recipe.yaml, environment.json   as the run wrote them
    metrics.jsonl       {"step": 1, "loss": 0.69, ..., "eval/loss": 0.68, "eval/loss_stderr": 0.01}
    completions.jsonl   {"prompt", "text", "step" (0: before training), "completion_length", "stop_reason"}, `stage`
    rollouts/*.jsonl    {"asked", "text", "version", "tokens", "stop", "rewards"}: what the policy learned from
    .lock               who writes into the folder, while somebody does
    data.json           in any nesting: counts {"source", "split", "read", "dropped": {reason: rows}}, lengths
                        {"edges": [n + 1 numbers], "counts": [n numbers]} or [length, ...]; `notes`: sentences
    values/*.jsonl      {"step", "depth", "estimate", "value", "stderr"}: states that were audited
    about_metrics.json  {metric: {"better", "label", "unit", ...}}: those that the method has declared itself
    outcome.json        {"step", "num_steps", "ended_early", "final_step": whose weights final/ holds, "best_step",
                        "ended_by": "patience" or "onlooker" where it ended early, ...}
    test.json, summary.json   {metric: {"value", "stderr", "n", "rows": [values], "ids": [...]}}, some of them under
                        `before` or `baselines`
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from align.errors import UserError, near_path
from align.methods.metrics import About, from_text
from align.report.lines import MOST, LoggedCompletion, completion, lines, rollouts
from align.report.measures import Measure, drawable, measure, measures, number
from align.report.parts.points import Curve, columns
from align.runfolder.lock import LOCK, held_by
from align.runfolder.logs import ABOUT
from align.system.trees import Shallow, bounded

CLUES = ("recipe.yaml", "metrics.jsonl")  # either one makes a folder a run
NOWHERE = Curve((), ())
SWEEP = "sweep.yaml"  # in a folder whose runs are cells of a grid
GUARD = ".sweep.lock"  # in it while the sweep goes on; not that of a run: the folder is none
SHOWN = 4  # names that a note lists


@dataclass(frozen=True, kw_only=True)
class Audited:
    """A state whose value was looked at."""

    step: int
    depth: int  # how many steps of the completion stand before it
    estimate: float
    value: float
    stderr: float  # of the value


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run folder in memory."""

    path: Path
    name: str
    recipe: dict[str, Any]
    recipe_text: str
    environment: dict[str, Any]
    steps: list[dict[str, float]]  # by step, one entry each
    samples: list[LoggedCompletion]
    data: Any
    test: dict[str, Measure]
    values: list[Audited] = field(default_factory=list)  # by step
    outcome: dict[str, Any] = field(default_factory=dict)  # how the run ended; empty while it has not
    about: dict[str, About] = field(default_factory=dict)  # metrics that the method has declared itself
    notes: list[str] = field(default_factory=list)  # what could not be read
    rollouts: list[LoggedCompletion] = field(default_factory=list)  # what was learned from, of the experiences kept
    held_by: str = ""  # who writes into the folder now, in words; empty: nobody

    @property
    def method(self) -> str:
        section = self.recipe.get("method")
        found = section.get("name") if isinstance(section, dict) else section
        return str(found) if found else self.name

    @property
    def last_step(self) -> int:
        return int(self.steps[-1]["step"]) if self.steps else 0

    @cached_property
    def columns(self) -> dict[str, Curve]:
        """Every metric by its name, in the order of first appearance, with values that cannot be drawn."""
        return columns(self.steps)

    @cached_property
    def curves(self) -> dict[str, Curve]:
        """(step, value) of every metric, wherever it is a number that can be drawn."""
        return {key: column.where(drawable(column.values)) for key, column in self.columns.items()}

    def metrics(self) -> list[str]:
        """Every metric, in the order of its first appearance."""
        return list(self.columns)

    def curve(self, key: str) -> Curve:
        return self.curves.get(key, NOWHERE)

    def evaluations(self, key: str) -> list[tuple[float, Measure]]:
        """(step, value and standard error) of a validation metric named without its `eval/`."""
        line, rows = self.curve(f"eval/{key}"), dict(self.curve("eval/n"))
        stderr, count = dict(self.curve(f"eval/{key}_stderr")), dict(self.curve(f"eval/{key}_n"))
        return [
            (step, measure({"value": value, "stderr": stderr.get(step), "n": count.get(step, rows.get(step))}))
            for step, value in line
        ]


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """A folder of runs that follow each other, and what came out in the end; or of a sweep."""

    path: Path
    stages: list[Run]
    summary: dict[str, Measure]
    notes: list[str] = field(default_factory=list)
    sweep: bool = False  # they do not follow each other: they are cells of a grid


def is_run(path: Path) -> bool:
    """Also one that has just begun, and written nothing yet."""
    return any((path / clue).is_file() for clue in CLUES) or bool(held_by(path / LOCK))


def read(path: Path) -> Run | Pipeline:
    """A run, or the runs of a pipeline folder in the order in which they began; those of a sweep in the grid's."""
    if not path.is_dir():
        cure = f"give a run folder, which `align train` writes under runs/{near_path(path)}"
        raise UserError(f"{path}: no such folder; {cure}")
    if is_run(path):
        return read_run(path)
    stages = sorted((p for p in path.iterdir() if p.is_dir() and is_run(p)), key=_began)
    if not stages:
        inside = sorted(p.name for p in path.iterdir())
        listing = f"it holds {', '.join(inside[:8])}{', ...' if len(inside) > 8 else ''}" if inside else "it is empty"
        raise UserError(
            f"{path}: not a run folder: neither recipe.yaml nor metrics.jsonl is in it, nor in a folder inside it "
            f"({listing}); give the folder that `align train` wrote"
        )
    notes: list[str] = []
    summary = measures(_json(path / "summary.json", notes))
    if sweep := (path / SWEEP).is_file():
        stages = _of_grid(path, stages, notes)
    return Pipeline(path=path, stages=[read_run(p) for p in stages], summary=summary, notes=notes, sweep=sweep)


def read_sweep(path: Path) -> dict[str, Any]:
    """What a sweep was asked for: `values` of each key, the names of its `cells`. OSError, ValueError, YAMLError."""
    found = bounded(yaml.load((path / SWEEP).read_text(encoding="utf-8"), Shallow))
    if not isinstance(found, dict):
        raise ValueError(f"{path / SWEEP}: holds no keys")
    values, cells = found.get("values") or {}, found.get("cells") or []
    if not (isinstance(values, dict) and isinstance(cells, list)):
        raise ValueError(f"{path / SWEEP}: values must be keys, and cells a list")
    return found | {"values": {str(key): texts for key, texts in values.items()}, "cells": list(map(str, cells))}


def _of_grid(path: Path, stages: Sequence[Path], notes: list[str]) -> list[Path]:
    """Cells in the order of the grid, others behind them; and a note of those that have not begun."""
    try:
        names: list[str] = read_sweep(path)["cells"]
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        notes.append(f"{SWEEP} cannot be read, so that it is not known which cells there should be.")
        return list(stages)
    begun = [p.name for p in stages]
    if absent := [name for name in names if name not in begun]:
        more = f" and {len(absent) - SHOWN} more" if len(absent) > SHOWN else ""
        notes.append(f"Not begun yet, or failed before a step: {', '.join(absent[:SHOWN])}{more}.")
    order = {name: place for place, name in enumerate(names)}
    return sorted(stages, key=lambda p: order.get(p.name, len(order)))


def _began(path: Path) -> tuple[float, str]:
    names = ("recipe.yaml", "environment.json", "metrics.jsonl", LOCK)
    files = [p for name in names if (p := path / name).is_file()]
    return min(p.stat().st_mtime for p in files), path.name


def read_run(path: Path) -> Run:
    notes: list[str] = []
    text = _text(path / "recipe.yaml", notes)
    recipe, environment = _recipe(text, notes), _json(path / "environment.json", notes)
    outcome = _json(path / "outcome.json", notes)
    if not text:
        notes.append("There is no recipe.yaml, so settings are not shown.")
    return Run(
        path=path,
        name=path.resolve().name,
        recipe=recipe,
        recipe_text=text,
        environment=environment if isinstance(environment, dict) else {},
        steps=_steps(path / "metrics.jsonl", notes),
        samples=[s for line in lines(path / "completions.jsonl", notes, MOST) if (s := completion(line))],
        rollouts=rollouts(path / "rollouts", notes),
        data=_json(path / "data.json", notes),
        test=measures(_json(path / "test.json", notes)),
        values=_values(path / "values", notes),
        outcome=outcome if isinstance(outcome, dict) else {},
        about=from_text(_json(path / ABOUT, notes)),
        held_by=held_by(path / LOCK),
        notes=notes,
    )


def _text(path: Path, notes: list[str]) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        notes.append(f"{path.name} cannot be read: {error.strerror}.")
        return ""


def _recipe(text: str, notes: list[str]) -> dict[str, Any]:
    try:
        found = bounded(yaml.load(text, Shallow))
    except (yaml.YAMLError, RecursionError, ValueError):
        notes.append("recipe.yaml is not valid YAML; it is shown as it stands.")
        return {}
    return found if isinstance(found, dict) else {}


def _json(path: Path, notes: list[str]) -> Any:
    text = _text(path, notes)
    try:
        return bounded(json.loads(text), len(text)) if text.strip() else {}
    except (ValueError, RecursionError):
        notes.append(f"{path.name} is not valid JSON and was left out.")
        return {}


def _steps(path: Path, notes: list[str]) -> list[dict[str, float]]:
    found: dict[float, dict[str, float]] = {}
    repeated: set[float] = set()
    for line in lines(path, notes):
        step = number(line.get("step"))
        if step is None or not drawable(step):
            continue
        numbers: dict[str, Any] = line | {"step": step}
        if set(map(type, numbers.values())) != {float}:
            numbers = {k: n for k, v in numbers.items() if (n := number(v)) is not None}
        if step not in found:
            found[step] = numbers
            continue
        if found[step].keys() & numbers.keys() - {"step"}:
            repeated.add(step)
        found[step].update(numbers)
    if repeated:
        notes.append(f"metrics.jsonl has {len(repeated)} steps more than once; the last line of each is shown.")
    if not found:
        notes.append("No step has been logged (metrics.jsonl is absent or empty), so there are no curves.")
    return [found[step] for step in sorted(found)]


def _values(folder: Path, notes: list[str]) -> list[Audited]:
    found: list[Audited] = []
    for path in sorted(folder.glob("*.jsonl")):
        for line in lines(path, notes):
            numbers = {f.name: number(line.get(f.name)) for f in fields(Audited)}
            if all(value is not None and drawable(value) for value in numbers.values()):
                known: dict[str, Any] = numbers | {name: int(numbers[name] or 0) for name in ("step", "depth")}
                found.append(Audited(**known))
    return found
