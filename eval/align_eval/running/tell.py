"""What the commands `generate` and `run` do with their words, and what they print."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from align.errors import UserError
from align.system.terminal import say
from align_eval.generation.answers import ending_of
from align_eval.generation.identity import unlike
from align_eval.generation.models import models_of
from align_eval.generation.settings import Settings, budget_of, parted, settings_of
from align_eval.results.wording import told
from align_eval.running.dry import tell_costs
from align_eval.running.run import Outcome, batches_of, run_tasks, write
from align_eval.tasks.files import task_of
from align_eval.tasks.task import Task, task_names

SHOWN = 5  # reasons that are listed
UNPARSED_SHOWN = 3  # answers in which no answer was found
TAIL = 70  # characters of such an answer that are shown: its end


def generate(words: Sequence[str], models: Sequence[str], out: Path, *, dry_run: bool) -> None:
    tasks, settings = _asked(words)
    found, batches = models_of(models, settings), batches_of(tasks, settings)
    if dry_run:
        return tell_costs(out, found, batches, settings)
    written = write(out, found, batches, settings, progress)
    for one in written:
        lost = f", {len(one.missing):,} missing" if one.missing else ""
        say(f"{one.task}: {len(one.answers):,} answers of {one.model} in {out}, {one.made:,} made now{lost}")
        for why, count in Counter(m.why for m in one.missing).most_common(SHOWN):
            say(f"  {count:,} missing: {why}")
    for warning in unlike(out, [task.name for task in tasks]):
        say(f"warning: {warning}", file=sys.stderr)
    return ending_of(written).tell(budget_of(settings).told)


def run(
    words: Sequence[str], models: Sequence[str], out: Path | None, checkpoints: Sequence[Path], *, dry_run: bool
) -> None:
    tasks, settings = _asked(words)
    if loose := [task.file for task in tasks if task.score.by == "none"]:
        raise UserError(f"{loose[0]}: has prompts and no right answers to score by; use generate, then judge")
    if bool(models) == bool(checkpoints):
        raise UserError("run: give models by --model, or runs by --checkpoints; one of the two")
    if checkpoints:
        from align_eval.running.checkpoints import tell_checkpoints

        return tell_checkpoints(checkpoints, tasks, settings, dry_run=dry_run)
    if out is None:
        raise UserError("run: --out is missing; name the evaluation folder, such as --out evals/gsm8k")
    found = models_of(models, settings)
    if dry_run:
        return tell_costs(out, found, batches_of(tasks, settings), settings)
    outcome = run_tasks(tasks, found, out, settings, progress)
    tell_outcome(outcome)
    say(f"{out}/results.json")
    return ending_of(outcome.written).tell(budget_of(settings).told)


def _asked(words: Sequence[str]) -> tuple[list[Task], Settings]:
    names, keys = parted(words)
    if not names:
        raise UserError(f"no task is named; there are {', '.join(task_names())}, or the path of a YAML file")
    tasks, settings = [task_of(name) for name in dict.fromkeys(names)], settings_of(keys)
    if settings.rows and len(tasks) > 1:
        raise UserError(f"rows={settings.rows}: is of one task; {len(tasks)} are named")
    return [replace(task, rows=settings.rows) for task in tasks] if settings.rows else tasks, settings


def progress(model: str, task: str, done: int, total: int) -> None:
    """One line that is written over where a person looks at it; else nothing."""
    if sys.stderr.isatty():
        say(f"\r{task} by {model}: {done:,} of {total:,}", file=sys.stderr, end="\n" if done >= total else "")


def tell_outcome(outcome: Outcome) -> None:
    """A line for each metric over all items, then what failed, then warnings."""
    for row in outcome.results.sections.scores:
        if not row.category:
            count = f" (n {row.estimate.n:,})" if row.estimate.n else ""
            say(f"{row.task:12} {row.model:24} {row.metric:28} {told(row.estimate)}{count}")
    for failure in outcome.results.failures:
        say(f"  {failure.model}: {failure.count} {failure.what}: {failure.why}")
    texts = {(a.item, a.model, a.sample): a.text for one in outcome.written for a in one.answers}
    lost = [s for s in outcome.scores if "unparsed" in s.columns]
    for score in lost[:UNPARSED_SHOWN]:
        say(f"  unparsed, {score.item} by {score.model}: ...{texts[score.item, score.model, score.sample][-TAIL:]!r}")
    for warning in outcome.results.warnings:
        say(f"warning: {warning}", file=sys.stderr)
