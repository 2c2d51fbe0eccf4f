"""Rows become items: the prompt with its worked examples, the right answer, and the columns that the scorer reads.

An item is the same for every model. Its prompt is the text of one turn of the user; whether that goes through a chat
template is a matter of the model. Ids are `TASK/ID`, so that several tasks can lie in one folder.
"""

from __future__ import annotations

import gzip
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from jinja2.sandbox import SandboxedEnvironment

from align.data.reading.messages import BadRow, Text, to_text
from align.errors import UserError
from align_eval.records import Item
from align_eval.tasks.task import Shots, Task

PROMPTS = ("prompt", "messages", "instruction", "question")  # columns of a file of prompts that may hold what is asked
TEXT = "utf-8-sig"  # editors of Windows begin a file with a mark
GAP = "\n\n"  # between worked examples, and before the question


def items_of(task: Task, shots: int | None = None, limit: int = 0, seed: int = 0) -> list[Item]:
    """All items of a task, or `limit` of them: as many of each category as its share, drawn with `seed`.

    `shots`: worked examples before each question; None: as many as the task says. UserError for a row that lacks what
    the task reads, and where ids are not unique.
    """
    if shots and task.shots is None:
        raise UserError(f"shots={shots}: {task.name} has no worked examples (its YAML has no section shots)")
    rows = list(read_rows(task.rows_file))
    examples = _Examples(task, task.shots.count if task.shots and shots is None else shots or 0)
    made = [_item(task, number, row, examples) for number, row in enumerate(rows)]
    twice = [id_ for id_, count in Counter(item.id for item in made).items() if count > 1]
    if twice:
        raise UserError(f"{task.rows_file}: {len(twice)} ids stand more than once, the first is {twice[0]!r}")
    return drawn(made, limit, seed)


def drawn(items: Sequence[Item], limit: int, seed: int) -> list[Item]:
    """At most `limit` of them (0: all), by largest remainder over the categories; in the order of the file."""
    if not limit or limit >= len(items):
        return list(items)
    by_category: dict[str, list[int]] = {}
    for i, item in enumerate(items):
        by_category.setdefault(item.category, []).append(i)
    exact = {c: limit * len(of) / len(items) for c, of in by_category.items()}
    counts = {c: int(share) for c, share in exact.items()}
    for c in sorted(exact, key=lambda c: counts[c] - exact[c])[: limit - sum(counts.values())]:
        counts[c] += 1
    generator = np.random.default_rng(seed)
    kept = [i for c, of in by_category.items() for i in generator.permutation(of)[: counts[c]].tolist()]
    return [items[i] for i in sorted(kept)]


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """JSON objects, one a line, gzipped or not. UserError naming the line that is none."""
    try:
        with path.open("rb") as raw, io.TextIOWrapper(gzip.open(raw) if path.suffix == ".gz" else raw, TEXT) as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except ValueError as error:
                    raise UserError(f"{path}: line {number}: no JSON: {error}") from None
                if not isinstance(row, dict):
                    raise UserError(f"{path}: line {number}: expected an object, found {type(row).__name__}")
                yield row
    except (OSError, UnicodeDecodeError, EOFError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None


def _item(task: Task, number: int, row: Mapping[str, Any], examples: _Examples) -> Item:
    place = f"{task.rows_file}: row {number + 1}"
    row = {**row, "row_number": number}

    def filled(key: str) -> str:
        return fill(getattr(task, key), row, f"{place}: {task.name}: {key}")

    if missing := [name for name in task.columns if name not in row]:
        raise UserError(f"{place}: lacks the column {missing[0]}; it has {', '.join(row)}")
    if not task.prompt:
        return _plain(task, number, row, place)
    columns: dict[str, Any] = {"task": task.name, **{name: row[name] for name in task.columns}}
    if task.mode == "choose":
        columns["choices"] = _choices(task, row, place)
    if task.gold:
        columns["gold"] = filled("gold")
    return Item(
        id=f"{task.name}/{filled('id') if task.id else number}",
        prompt=examples.before(row, place) + filled("prompt"),
        reference=filled("reference") if task.reference else None,
        category=filled("category") if task.category else "",
        columns=columns,
    )


def _plain(task: Task, number: int, row: Mapping[str, Any], place: str) -> Item:
    """A row of a file of prompts; whatever else it has is kept."""
    key = next((key for key in PROMPTS if row.get(key)), None)
    if key is None:
        empty = next((key for key in PROMPTS if key in row), "")
        there = ", ".join(name for name in row if name != "row_number") or "nothing"
        found = f"{empty} is empty" if empty else f"expected one of {', '.join(PROMPTS)}; it has {there}"
        raise UserError(f"{place}: {found}")
    try:
        prompt = _asked(to_text(row[key], key), key, row)
    except BadRow as error:
        raise UserError(f"{place}: {error}") from None
    if not prompt:
        raise UserError(f"{place}: {key} asks nothing: it has no turn but the answer")
    rest = {k: v for k, v in row.items() if k not in (key, "id", "reference", "category")}
    return Item(id=f"{task.name}/{row.get('id', number)}", prompt=prompt, reference=row.get("reference"),
                category=str(row.get("category") or ""), columns={**rest, "task": task.name})  # fmt: skip


def _asked(text: Text, key: str, row: Mapping[str, Any]) -> Text:
    """What a row of another purpose asks: a demonstration's messages without their answer, Alpaca's two columns."""
    if key == "messages" and not isinstance(text, str) and text[-1:] and text[-1]["role"] == "assistant":
        return text[:-1]
    if key == "instruction" and isinstance(text, str) and isinstance(more := row.get("input"), str) and more.strip():
        return f"{text}\n{more}"
    return text


def _choices(task: Task, row: Mapping[str, Any], place: str) -> list[str]:
    try:
        found = _expression(task.choices)(row)
    except Exception as error:  # an expression of the task's author, which may fail with anything
        raise UserError(f"{place}: choices: {type(error).__name__}: {error}") from None
    if not isinstance(found, list) or len(found) < 2:
        shown = f"{len(found)} of them" if isinstance(found, list) else type(found).__name__
        raise UserError(f"{place}: choices: {task.choices} gives {shown}; expected a list of two or more")
    return [str(choice) for choice in found]


class _Examples:
    """Worked examples, read once."""

    def __init__(self, task: Task, count: int):
        self.count, self.task = count, task
        self.shots: Shots | None = task.shots if count else None
        path = task.shots_file if count else None
        self.rows = list(read_rows(path)) if path else []
        self.told: dict[str, str] = {}  # by the value of `shots.by`

    def before(self, row: Mapping[str, Any], place: str) -> str:
        """What stands before the question of a row."""
        shots = self.shots
        if shots is None:
            return ""
        key = json.dumps(row.get(shots.by)) if shots.by else ""
        if key not in self.told:
            self.told[key] = self._before(shots, row.get(shots.by), place)
        return self.told[key]

    def _before(self, shots: Shots, value: Any, place: str) -> str:
        rows = [r for r in self.rows if not shots.by or r.get(shots.by) == value][: self.count]
        if len(rows) < self.count:
            of = f" with {shots.by} {value!r}" if shots.by else ""
            raise UserError(f"{place}: shots={self.count}: {shots.rows} has {len(rows)} worked examples{of}")
        return "".join(self._one(shots, r, place) for r in rows)

    def _one(self, shots: Shots, row: Mapping[str, Any], place: str) -> str:
        asked = fill(shots.prompt or self.task.prompt, row, f"{place}: shots.prompt").strip("\n")
        said = fill(shots.answer, row, f"{place}: shots.answer").strip()
        return f"{asked} {said}{GAP}"


@cache
def _environment() -> SandboxedEnvironment:
    return SandboxedEnvironment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)


@cache
def _template(text: str) -> jinja2.Template:
    return _environment().from_string(text)


@cache
def _expression(text: str) -> Any:
    return _environment().compile_expression(text, undefined_to_none=False)


def fill(text: str, row: Mapping[str, Any], place: str) -> str:
    """A template with a row's columns in it. UserError where it cannot be read, or names what the row has not."""
    try:
        return _template(text).render(row)
    except jinja2.TemplateError as error:
        raise UserError(f"{place}: {error.message}; the row has {', '.join(map(str, row))}") from None
    except Exception as error:  # a template is a program of the task's author, which may fail with anything
        raise UserError(f"{place}: {type(error).__name__}: {error}; the row has {', '.join(map(str, row))}") from None
