"""A file of prompts as a task without a right answer: what `generate FILE.jsonl` answers."""

from __future__ import annotations

from pathlib import Path

from align.data.reading.sources import resolve
from align.errors import UserError
from align_eval.tasks.task import Scorer, Task, load


def task_of(name: str) -> Task:
    """A task by its name or YAML file, or the prompts of a .jsonl file. UserError."""
    if not name.endswith((".jsonl", ".jsonl.gz")):
        return load(name)
    path = resolve(name)
    if path is None or not path.is_file():
        raise UserError(f"{name}: no such file")
    return prompts_in(path.absolute())


def prompts_in(path: Path) -> Task:
    """The rows are named as beside the task's file, so that both may be moved."""
    name = path.name.partition(".jsonl")[0]
    return Task(name=name, version=1, rows=path.name, prompt="", score=Scorer(by="none"), headline="none",
                file=str(path))  # fmt: skip
