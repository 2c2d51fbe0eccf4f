"""Tasks and models in, answers, scores and results.json out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import align
from align.errors import UserError
from align.runfolder.lock import Lock, Words
from align.system.lines import Tell, warn
from align.system.machine import unwritable
from align.system.sums import sha256_of
from align_eval.analysis.missing import failures
from align_eval.generation.answers import Batch, Means, Written, generate, plan_of, samples_of
from align_eval.generation.asked import Model
from align_eval.generation.identity import identities, unlike
from align_eval.generation.settings import Settings, budget_of
from align_eval.records import Score
from align_eval.results.document import Failure, Results, Scored, Sections
from align_eval.results.reading import add, ready
from align_eval.running.scoring import score
from align_eval.running.summary import summarise
from align_eval.scorers.texts import SYMBOLIC, symbolic
from align_eval.tasks.items import items_of
from align_eval.tasks.task import Task

GUARD = ".answers.lock"  # in the folder, while answers are written
HOLDS = Words("another process that writes answers", "another --out")
INPUTS = ("items.jsonl", "answers/*.jsonl", "scores/*.jsonl", "verdicts/*.jsonl")
Progress = Callable[[str, str, int, int], object]  # model, task, answers there, answers in all


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What `run_tasks` made, in memory."""

    folder: Path
    results: Results
    written: list[Written] = field(default_factory=list)
    scores: list[Score] = field(default_factory=list)

    def scored(self, model: str, task: str, metric: str = "") -> Scored:
        """One row; without a metric the task's headline. KeyError where there is none."""
        rows = [s for s in self.results.sections.scores if (s.model, s.task, s.category) == (model, task, "")]
        found = [s for s in rows if metric in ("", s.metric)]
        if not found:
            raise KeyError(f"{model}, {task}, {metric}: there are {', '.join(s.metric for s in rows) or 'no scores'}")
        return found[0]


def quiet(model: str, task: str, done: int, total: int) -> None:
    """No word of progress."""


def batches_of(tasks: Sequence[Task], settings: Settings) -> list[Batch]:
    """UserError where a row does not fit its task, or there is none."""
    found = [
        Batch(task=t, items=items_of(t, settings.shots, settings.limit, settings.seed), shots=settings.shots)
        for t in tasks
    ]
    if bare := [batch.task.rows_file for batch in found if not batch.items]:
        raise UserError(f"{bare[0]}: has no rows; expected one JSON object a line")
    return found


def write(
    folder: Path, models: Sequence[Model], batches: Sequence[Batch], settings: Settings, progress: Progress = quiet,
    tell: Tell = warn,
) -> list[Written]:  # fmt: skip
    """Answers alone, one model after the other, so that one is in memory at a time; all of them share the budget.

    UserError where another process writes answers into the folder: both would ask for the same ones.
    """
    found: list[Written] = []
    means = Means(budget_of(settings), tell=tell)
    with _taken(folder):
        for model in models:
            try:
                for batch in batches:
                    total = len(batch.items) * len(samples_of(plan_of(model, batch.task, settings), settings))
                    tick = _Ticks(partial(progress, model.name, batch.task.name), total)
                    found.append(generate(folder, model, batch, settings, replace(means, tick=tick)))
            finally:
                model.close()
    return found


@contextmanager
def _taken(folder: Path) -> Iterator[None]:
    if reason := unwritable(folder):
        raise UserError(f"--out {folder}: cannot be written: {reason}; choose another place")
    folder.mkdir(parents=True, exist_ok=True)
    guard = Lock(folder / GUARD, HOLDS)
    guard.take()
    try:
        yield
    finally:
        guard.release()


@dataclass
class _Ticks:
    """How many answers there are, told whenever there are more."""

    tell: Callable[[int, int], object]  # there, in all
    total: int
    there: int = 0

    def __call__(self, more: int) -> None:
        self.there += more
        self.tell(self.there, self.total)


def run_tasks(
    tasks: Sequence[Task], models: Sequence[Model], folder: Path, settings: Settings, progress: Progress = quiet
) -> Outcome:
    """Writes what is missing, scores it, and puts estimates into `folder`/results.json. UserError, RunError."""
    ready(folder)
    warnings: list[str] = []
    batches = batches_of(tasks, settings)
    written = write(folder, models, batches, settings, progress, warnings.append)
    scores: list[Score] = []
    rows: list[Scored] = []
    failed: list[Failure] = []
    by_name = {batch.task.name: batch for batch in batches}
    for one in written:
        batch = by_name[one.task]
        of = score(folder, batch.task, batch.items, one, warnings.append)
        rows += summarise(batch.task, batch.items, one, of)
        failed += failures(batch.task.name, one.model, of)
        scores += of
    results = Results(
        title=f"{', '.join(by_name)}: {', '.join(dict.fromkeys(one.model for one in written))}",
        command=" ".join(sys.argv),
        manifest=_manifest(folder, batches, settings),
        models=[_told(model.name, folder) for model in models],
        warnings=[*dict.fromkeys(warnings), *_warnings(folder, batches, settings)],
        failures=failed,
        sections=Sections(scores=rows),
    )
    add(folder, results)
    return Outcome(folder=folder, results=results, written=written, scores=scores)


def _manifest(folder: Path, batches: Sequence[Batch], settings: Settings) -> dict[str, Any]:
    return {
        "version": align.__version__, "command": " ".join(sys.argv), "seed": settings.seed,
        "inputs": inputs_of(folder),
        "tasks": {b.task.name: {"version": b.task.version, "items": len(b.items), "source": b.task.source}
                  for b in batches},
        "settings": {k: v for k, v in vars(settings).items() if v != getattr(Settings(), k)},
        "models": {name: one["model"] for name, one in identities(folder).items()},
    }  # fmt: skip


def inputs_of(folder: Path) -> dict[str, str]:
    """The sums of what results are made of."""
    files = sorted(path for pattern in INPUTS for path in folder.glob(pattern))
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in files}


def _told(name: str, folder: Path) -> dict[str, Any]:
    return {"name": name, **identities(folder).get(name, {}).get("model", {})}


def _warnings(folder: Path, batches: Sequence[Batch], settings: Settings) -> list[str]:
    found = unlike(folder, [batch.task.name for batch in batches])
    if not symbolic() and any(b.task.score.by == "math" for b in batches):
        found.append(f"{SYMBOLIC} is not installed: formulas are right only where they read the same as the answer")
    for batch in batches:
        if settings.limit and settings.limit == len(batch.items):
            found.append(f"{batch.task.name}: only {settings.limit} items, drawn with seed {settings.seed}")
    return found
