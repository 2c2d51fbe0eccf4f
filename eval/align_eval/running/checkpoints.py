"""Task scores of every checkpoint of a run, with the same code as everywhere, into the run's folder.

`RUN/evaluations/` is an evaluation folder whose models are `RUN@STEP`: what training began with (step 0), the
checkpoints that are there, and final/. `checkpoints.jsonl` in it has a row for each step, task and metric, which the
report of the run shows. What was answered before is not written again, so this can be called while a run goes on.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from align.errors import UserError
from align.report.page import write as write_report
from align.runfolder.checkpoint import step_of
from align.system.files import replace_file
from align.system.lines import read_lines, warn
from align.system.terminal import say
from align_eval.generation.answers import Written, ending_of
from align_eval.generation.asked import Model
from align_eval.generation.local import Local
from align_eval.generation.settings import Settings, budget_of
from align_eval.generation.trained import beginning_of, find, steps_of
from align_eval.results.wording import told
from align_eval.running.dry import tell_costs
from align_eval.running.run import Outcome, Progress, batches_of, quiet, run_tasks
from align_eval.statistics.estimate import Estimate
from align_eval.tasks.task import Task, load

FOLDER, NAME = "evaluations", "checkpoints.jsonl"


@dataclass(frozen=True, kw_only=True)
class Point:
    """One metric of one checkpoint."""

    step: int
    task: str
    metric: str
    value: float | None
    low: float | None
    high: float | None
    level: float
    n: int
    method: str
    unit: str
    why: str

    @property
    def estimate(self) -> Estimate:
        return Estimate(**{f.name: getattr(self, f.name) for f in fields(Estimate) if hasattr(self, f.name)})


@dataclass(frozen=True, kw_only=True)
class Course:
    """How a run's scores went."""

    run: Path
    outcome: Outcome
    points: list[Point]  # by task, metric and step

    def curve(self, task: str, metric: str = "") -> list[Point]:
        """Of one metric, by step; without a name the one that comes first, the task's headline."""
        of = [p for p in self.points if p.task == task]
        wanted = metric or (of[0].metric if of else "")
        return sorted((p for p in of if p.metric == wanted), key=lambda p: p.step)


def evaluate_checkpoints(
    run: Path | str, *tasks: Task | str, settings: Settings | None = None, progress: Progress = quiet
) -> Course:
    """Scores what is there of a run on tasks (names, YAML files). UserError, RunError as for `run_tasks`."""
    path, how = Path(run), settings or Settings()
    points_in(path / FOLDER / NAME)
    found = [load(task) if isinstance(task, str) else task for task in tasks]
    if not found:
        raise UserError("evaluate_checkpoints: no task is named")
    models = models_in(path, how)
    outcome = run_tasks(found, list(models.values()), path / FOLDER, how, progress)
    points = points_of(outcome, {model.name: step for step, model in models.items()})
    write_points(path / FOLDER / NAME, points)
    write_report([path])
    return Course(run=path, outcome=outcome, points=points)


def models_in(path: Path, settings: Settings) -> dict[int, Model]:
    """By step: 0 is what training began with. UserError where a run has no checkpoints."""
    if settings.engine != "local":
        raise UserError(f"engine={settings.engine}: checkpoints are read in this process; leave engine out")
    name, folders = path.resolve().name, steps_of(path)
    found: dict[int, Model] = {0: Local(f"{name}@0", beginning_of(path), settings)}
    final = _final_step(path)
    for folder in folders:
        step = step_of(folder)
        found[step] = Local(f"{name}@{step}", find(str(folder)), settings)
    if final is not None and final not in found:
        found[final] = Local(f"{name}@{final}", find(str(path / "final")), settings)
    return dict(sorted(found.items()))


def _final_step(path: Path) -> int | None:
    """Whose weights final/ holds; None where there is none."""
    try:
        return int(json.loads((path / "outcome.json").read_text(encoding="utf-8"))["final_step"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def points_of(outcome: Outcome, steps: dict[str, int]) -> list[Point]:
    rows = [row for row in outcome.results.sections.scores if not row.category]
    return [point_of(steps[row.model], row.task, row.metric, row.estimate) for row in rows]


def point_of(step: int, task: str, metric: str, found: Estimate) -> Point:
    return Point(
        step=step, task=task, metric=metric, value=found.value, low=found.low, high=found.high, level=found.level,
        n=found.n, method=found.method, unit=found.unit, why=found.why,
    )  # fmt: skip


def write_points(path: Path, points: Sequence[Point]) -> None:
    """Beside those of other tasks and steps that are there."""
    rows = points_in(path)
    rows |= {_key(row): row for row in map(asdict, points)}
    replace_file(path, "".join(json.dumps(row) + "\n" for row in rows.values()))


def points_in(path: Path) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Rows that are there. UserError for what is no such file: told before work, by whoever adds to it at the end."""
    return {_key(row): row for _, row in read_lines(path, warn)} if path.exists() else {}


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return row.get("task"), row.get("metric"), row.get("step")


def tell_checkpoints(runs: Sequence[Path], tasks: Sequence[Task], settings: Settings, *, dry_run: bool) -> None:
    """What `run --checkpoints` prints."""
    if len(runs) > 1 and (settings.max_calls or settings.max_total_tokens):
        raise UserError(f"a budget is of one run; name one with --checkpoints ({len(runs)} are named)")
    written: list[Written] = []
    for path in runs:
        if dry_run:
            models, batches = list(models_in(path, settings).values()), batches_of(tasks, settings)
            tell_costs(path / FOLDER, models, batches, settings)
            continue
        course = evaluate_checkpoints(path, *tasks, settings=settings)
        written += course.outcome.written
        for task in tasks:
            for point in course.curve(task.name):
                row = course.outcome.scored(f"{path.resolve().name}@{point.step}", task.name, point.metric)
                say(f"{task.name:12} {row.model:24} {row.metric:24} {told(row.estimate)}")
        say(f"{path / 'report.html'}")
    ending_of(written).tell(budget_of(settings).told)
