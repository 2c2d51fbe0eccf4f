"""Placeholder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from align_eval.records import Answer, Item
from align_eval.tasks.task import Task


def of_instructions(task: Task, item: Item, answer: Answer) -> Iterator[tuple[str, float | None, str, dict[str, Any]]]:
    yield task.headline, None, "this scorer is not there yet", {}
