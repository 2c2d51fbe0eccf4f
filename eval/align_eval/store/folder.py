"""The files of an evaluation's folder.

    items.jsonl            what is asked, once for all models
    answers/MODEL.*.jsonl  what models wrote, one file for each process that wrote
    verdicts/JUDGE.*.jsonl what judges said
    scores/METRIC.*.jsonl  what metrics and reward models said of single answers

Rows are only ever appended. The true names of models and judges stand in the rows; those of files are made safe. What
is there twice is told: the same row counts once, and of two that differ the first counts (by file name and line), or
of verdicts the one with the highest revision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from align.errors import UserError
from align.judges.base import Verdict
from align.system.lines import Tell, append_lines, read_folder, read_lines, warn, writer_file
from align_eval.records import Answer, Item, Score
from align_eval.store.repeated import once
from align_eval.store.rows import from_row, to_row

Record = TypeVar("Record", Item, Answer, Verdict, Score)
ITEMS, ANSWERS, VERDICTS, SCORES = "items.jsonl", "answers", "verdicts", "scores"


def key_of(row: Item | Answer | Verdict | Score) -> tuple[Any, ...]:
    """What a row is about: two rows with one key say the same thing twice, or contradict each other."""
    if isinstance(row, Item):
        return (row.id,)
    if isinstance(row, Answer):
        return row.item, row.model, row.sample
    if isinstance(row, Score):
        return row.item, row.model, row.sample, row.metric
    return row.item, row.models, row.judge, row.order, row.repeat


# ---- reading --------------------------------------------------------------------------------------------------------


def read_items(folder: Path, tell: Tell = warn) -> list[Item]:
    """In the order of the file. UserError where there are none."""
    path = Path(folder) / ITEMS
    if not path.exists():
        raise UserError(f"{folder}: has no {ITEMS}; make one with align-eval generate, run or import")
    return _records(Item, read_lines(path, tell), tell)


def read_answers(folder: Path, tell: Tell = warn) -> list[Answer]:
    """Of all models; empty where there are none."""
    return _records(Answer, read_folder(Path(folder) / ANSWERS, tell), tell)


def read_scores(folder: Path, tell: Tell = warn) -> list[Score]:
    """Of all metrics; empty where there are none."""
    return _records(Score, read_folder(Path(folder) / SCORES, tell), tell)


def read_verdicts(folder: Path, tell: Tell = warn) -> list[Verdict]:
    """Of all judges, each question once: as it was judged or read last."""
    found = _checked(Verdict, read_folder(Path(folder) / VERDICTS, tell))
    newest: dict[tuple[Any, ...], int] = {}
    for _, row in found:
        newest[key_of(row)] = max(row.revision, newest.get(key_of(row), 0))
    return once([(place, row) for place, row in found if row.revision == newest[key_of(row)]], key_of, tell)


def _records(kind: type[Record], rows: Iterable[tuple[str, dict[str, Any]]], tell: Tell) -> list[Record]:
    return once(_checked(kind, rows), key_of, tell)


def _checked(kind: type[Record], rows: Iterable[tuple[str, dict[str, Any]]]) -> list[tuple[str, Record]]:
    found = [(place, from_row(kind, row, place)) for place, row in rows]
    for place, record in found:
        if wrong := _unsound(record):
            raise UserError(f"{place}: {wrong}")
    return found


def _unsound(record: Item | Answer | Verdict | Score) -> str:
    """What of a record contradicts itself; empty where nothing does."""
    if isinstance(record, Verdict | Score) and record.score is None and not record.why:
        return "score is null and why is empty; say why there is no score"
    if isinstance(record, Verdict) and len(record.models) == 2:
        if record.order == "":
            return "two models and no order; expected ab (the first was shown first) or ba"
        if record.score is not None and not 0 <= record.score <= 1:
            return f"score: found {record.score:g}; expected 0 to 1 for two models (1: the first is better)"
    return ""


# ---- appending ------------------------------------------------------------------------------------------------------


def append_items(folder: Path, items: Sequence[Item], tell: Tell = warn) -> None:
    """Adds those that are not there yet. UserError where one has the id of another that differs."""
    path = Path(folder) / ITEMS
    there = {item.id: item for item in read_items(folder, tell)} if path.exists() else {}
    new: dict[str, Item] = {}
    for item in items:
        before = there.get(item.id) or new.get(item.id)
        if before is not None and to_row(before) != to_row(item):
            differs = next(k for k in ("prompt", "reference", "category", "columns") if _of(before, k) != _of(item, k))
            raise UserError(f"{path}: item {item.id!r} is there with another {differs}; take other ids or a new folder")
        if before is None:
            new[item.id] = item
    append_lines(path, map(to_row, new.values()))


def _of(item: Item, key: str) -> Any:
    return getattr(item, key)


def append_answers(folder: Path, answers: Sequence[Answer]) -> None:
    """To a file of this process for each model."""
    _append(Path(folder) / ANSWERS, answers, lambda row: row.model)


def append_verdicts(folder: Path, verdicts: Sequence[Verdict]) -> None:
    """To a file of this process for each judge."""
    _append(Path(folder) / VERDICTS, verdicts, lambda row: row.judge)


def append_scores(folder: Path, scores: Sequence[Score]) -> None:
    """To a file of this process for each metric."""
    _append(Path(folder) / SCORES, scores, lambda row: row.metric)


def _append(folder: Path, rows: Sequence[Record], stem: Callable[[Record], str]) -> None:
    for row in rows:
        assert not (wrong := _unsound(row)), f"{row}: {wrong}"
    for name, group in _grouped(rows, stem):
        append_lines(writer_file(folder, name), map(to_row, group))


def _grouped(rows: Sequence[Record], stem: Callable[[Record], str]) -> Iterator[tuple[str, list[Record]]]:
    groups: dict[str, list[Record]] = {}
    for row in rows:
        groups.setdefault(stem(row), []).append(row)
    yield from groups.items()
