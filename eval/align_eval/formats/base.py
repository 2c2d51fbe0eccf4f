"""What a format is: from files to records and back, with every loss told and counted."""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from align.errors import UserError
from align.judges.base import Verdict
from align_eval.analysis.evaluation import Evaluation
from align_eval.records import Answer, Item, Score

UNKNOWN_ORDER = {"ordered": False}  # columns of a verdict whose file does not say which answer was shown first
MESSAGES = "prompts of several messages are written as one text"  # a loss that several formats have
Row = dict[str, Any]


@dataclass(kw_only=True)
class Found:
    """What files hold, and what of them has no place here: the words of a loss and how often it happened."""

    items: list[Item] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    scores: list[Score] = field(default_factory=list)
    losses: Counter[str] = field(default_factory=Counter)

    def item(self, item: Item) -> None:
        """Adds it; of one that is there already, what is empty is filled in."""
        at = self._places.get(item.id)
        if at is None:
            self._places[item.id] = len(self.items)
            self.items.append(item)
        else:
            there = self.items[at]
            self.items[at] = Item(
                id=item.id,
                prompt=there.prompt or item.prompt,
                reference=item.reference if there.reference is None else there.reference,
                category=there.category or item.category,
                columns={**item.columns, **there.columns},
            )

    def __post_init__(self):
        self._places = {item.id: i for i, item in enumerate(self.items)}


@dataclass(frozen=True, kw_only=True)
class Names:
    """What the files themselves may not say."""

    model: str = ""
    baseline: str = ""


@dataclass(frozen=True, kw_only=True)
class Format:
    """`read` takes files and names; `write` takes an evaluation and a folder, and returns losses."""

    name: str
    about: str  # which files, for the help
    read: Callable[[Sequence[Path], Names], Found]
    write: Callable[[Evaluation, Path], Counter[str]]


# ---- files ----------------------------------------------------------------------------------------------------------


def rows_of(path: Path) -> Iterator[tuple[str, Row]]:
    """The objects of a file with their places: JSON lines, or one JSON list; .gz is unpacked. UserError otherwise."""
    text = text_of(path)
    if text.lstrip()[:1] == "[":
        for number, row in enumerate(parsed(text, str(path)), start=1):
            yield f"{path}: row {number}", _object(row, f"{path}: row {number}")
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield f"{path}:{number}", _object(parsed(line, f"{path}:{number}"), f"{path}:{number}")


def text_of(path: Path) -> str:
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None


def parsed(text: str, place: str) -> Any:
    """NaN stays one, and is a missing number to those who ask by `number`."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place}: is no valid JSON: {error}") from None


def _object(row: Any, place: str) -> Row:
    if not isinstance(row, dict):
        raise UserError(f"{place}: is a {type(row).__name__}, expected an object")
    return row


# ---- values ---------------------------------------------------------------------------------------------------------


def need(row: Row, key: str, place: str) -> Any:
    """UserError where it is not there."""
    if key not in row:
        raise UserError(f"{place}: misses {key}; it has {', '.join(row)}")
    return row[key]


def text(row: Row, key: str, place: str) -> str:
    """A text or a number as text. UserError for anything else."""
    value = need(row, key, place)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UserError(f"{place}: {key}: found {value!r:.80}; expected a text")
    return str(value)


def number(value: Any) -> float | None:
    """A finite number, or None for whatever else stands there."""
    if isinstance(value, bool | int | float) and math.isfinite(value):
        return float(value)
    return None


def rest(row: Row, *used: str) -> Row:
    """What else the row has, for `columns`; what JSON cannot hold as text."""
    return {key: plain(value) for key, value in row.items() if key not in used and value not in (None, "")}


def plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, list | tuple) else value


def raw_of(value: Any) -> str:
    """What a judge said, as text."""
    return value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)


def key_of(words: str) -> str:
    """A short id for an item that has none: of what was asked."""
    return sha256(words.encode(errors="backslashreplace")).hexdigest()[:16]


def as_lines(rows: Sequence[Row]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
