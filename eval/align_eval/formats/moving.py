"""`import` and `export`: files of another project into an evaluation's folder, and out of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from align.errors import UserError
from align.system.machine import unwritable
from align_eval.analysis.evaluation import evaluation_of
from align_eval.formats.base import Found, Names
from align_eval.formats.table import format_of
from align_eval.records import Item
from align_eval.store import append_answers, append_items, append_scores, append_verdicts
from align_eval.store.folder import ITEMS


@dataclass(frozen=True, kw_only=True)
class Moved:
    """How much was moved, and what was lost: words with counts."""

    items: int
    answers: int
    verdicts: int
    scores: int
    missing: int = 0  # verdicts and scores without a value
    losses: dict[str, int] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """For the terminal."""
        counts = [f"{n:,} {name}" for name, n in (("items", self.items), ("answers", self.answers),
                  ("verdicts", self.verdicts), ("scores", self.scores)) if n]  # fmt: skip
        missing = f"; {self.missing:,} verdicts or scores have no value" if self.missing else ""
        told = [f"lost or changed: {words} ({count:,})" for words, count in self.losses.items()]
        return [(", ".join(counts) or "nothing") + missing, *told]


def bring(name: str, files: Sequence[Path], folder: Path, names: Names | None = None) -> Moved:
    """Adds what the files of format `name` hold to a folder. UserError: unknown format, unreadable files, wrong rows.

    All files are read before anything is written. Items whose prompt no file has are made without one, and told.
    """
    found = format_of(name).read(list(_flat(files)), names or Names())
    if not (found.items or found.answers or found.verdicts or found.scores):
        raise UserError(f"{', '.join(map(str, files))}: hold nothing")
    if reason := unwritable(folder):
        raise UserError(f"--into {folder}: cannot be written: {reason}; choose another place")
    _complete(found, folder)
    append_items(folder, found.items)
    append_answers(folder, found.answers)
    append_verdicts(folder, found.verdicts)
    append_scores(folder, found.scores)
    missing = sum(row.score is None for row in (*found.verdicts, *found.scores))
    return Moved(
        items=len(found.items), answers=len(found.answers), verdicts=len(found.verdicts), scores=len(found.scores),
        missing=missing, losses={words: n for words, n in found.losses.items() if n},
    )  # fmt: skip


def take_out(name: str, folder: Path, out: Path) -> Moved:
    """Writes an evaluation's folder in format `name` into `out`. UserError: unknown format, or no evaluation."""
    made = format_of(name)
    found = evaluation_of(folder)
    losses = made.write(found, out)
    if not any(path.is_file() for path in (out.rglob("*") if out.is_dir() else [out])):
        raise UserError(f"{folder}: nothing of it has a place in {name}: {'; '.join(losses) or 'it is empty'}")
    missing = sum(row.score is None for row in (*found.verdicts, *found.scores))
    return Moved(
        items=len(found.items), answers=len(found.answers), verdicts=len(found.verdicts), scores=len(found.scores),
        missing=missing, losses={words: n for words, n in losses.items() if n},
    )  # fmt: skip


def _flat(files: Sequence[Path]) -> list[Path]:
    """A folder stands for all JSON files in it."""
    found: list[Path] = []
    for path in files:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.name.endswith((".json", ".jsonl", ".jsonl.gz", ".json.gz")))
            if not inside:
                raise UserError(f"{path}: holds no JSON files")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise UserError(f"{path}: no such file")
    return found


def _complete(found: Found, folder: Path) -> None:
    """Every row names an item that is there, in the files or in the folder."""
    known = {item.id for item in found.items}
    if (folder / ITEMS).exists():
        there = evaluation_of(folder).items
        known |= {item.id for item in there}
    for row in (*found.answers, *found.verdicts, *found.scores):
        if row.item not in known:
            known.add(row.item)
            found.item(Item(id=row.item, prompt=""))
            found.losses["items without a prompt: the files do not have them"] += 1
