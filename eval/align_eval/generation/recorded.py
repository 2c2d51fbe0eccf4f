"""Answers that exist already: a file of rows, or the right answers of a task, by which its whole path can be tested."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from align.errors import UserError
from align.system.sums import sha256_of
from align_eval.generation.asked import Ask, Keep, Made, Missing, Plan, Trained
from align_eval.records import Answer, Item
from align_eval.store.rows import from_row
from align_eval.tasks.items import read_rows

GOLD = "gold"
MORE = ("sample", "stop", "num_tokens", "columns")
TEXTS = ("text", "answer", "output", "completion", "response")  # columns that may hold what was written


class Gold:
    """A model that knows: it writes what the task's `gold` says."""

    name = GOLD
    side_by_side = 256
    whole_chunks = False
    asks = False
    exact = True

    def __init__(self, name: str = GOLD):
        self.name = name

    def identity(self) -> dict[str, Any]:
        return {"kind": GOLD}

    def trained(self) -> Trained:
        return Trained()

    def count(self, item: Item, plan: Plan) -> int:
        return 0

    def close(self) -> None:
        pass

    def answer(self, asks: Sequence[Ask], plan: Plan, keep: Keep) -> None:
        keep([self._one(ask.item, sample) for ask in asks for sample in ask.samples])

    def _one(self, item: Item, sample: int) -> Made:
        if "gold" not in item.columns:
            why = f"{item.columns.get('task')} has no gold answers (its YAML has no key gold)"
            return Missing(item=item.id, model=self.name, sample=sample, why=why)
        return Answer(item=item.id, model=self.name, sample=sample, text=item.columns["gold"], stop="eos")


class Recorded(Gold):
    """A file of rows {item, text}, and perhaps sample, stop, num_tokens, columns; `item` with or without the task."""

    def __init__(self, name: str, path: Path):
        super().__init__(name)
        self.path = path
        self.rows: dict[tuple[str, int], Answer] = {}
        for number, row in enumerate(read_rows(path), 1):
            self._take(row, f"{path}: row {number}")

    def _take(self, row: dict[str, Any], place: str) -> None:
        column = next((key for key in TEXTS if key in row), "")
        item, text = row.get("item", row.get("id")), row.get(column)
        if item is None or not column:
            raise UserError(f"{place}: expected item and text, found {', '.join(row) or 'nothing'}")
        if not isinstance(text, str):
            raise UserError(f"{place}: {column}: found {text!r:.80}; expected a text; leave out what was not answered")
        more = {key: row[key] for key in MORE if row.get(key) is not None}
        made = from_row(Answer, {"item": str(item), "model": self.name, "text": text, **more}, place)
        if made.sample < 0:
            raise UserError(f"{place}: sample: found {made.sample}; expected 0 or more")
        key = made.item, made.sample
        if key in self.rows:
            raise UserError(f"{place}: a second answer to item {item}, sample {key[1]}; number them by `sample`")
        self.rows[key] = made

    def identity(self) -> dict[str, Any]:
        return {"kind": "recorded", "sha256": sha256_of(self.path)}

    def _one(self, item: Item, sample: int) -> Made:
        short = item.id.partition("/")[2]
        row = self.rows.get((item.id, sample)) or self.rows.get((short, sample))
        if row is None:
            why = f"{self.path.name} has no answer to it"
            return Missing(item=item.id, model=self.name, sample=sample, why=why)
        return replace(row, item=item.id)
