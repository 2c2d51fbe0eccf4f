"""Prompts of a split as they stand in the files, without a tokenizer: for models that answer them anew."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from align.batches import RowKind
from align.data.fill import Feed, key_of, reader_of, split_of
from align.data.prepare import plan
from align.data.reading.messages import BadRow, Text
from align.data.reading.rows import Row
from align.data.reading.sources import iterate
from align.data.settings import DataSection

Split = Literal["validation", "test"]


@dataclass(kw_only=True)
class Prompts:
    """Each once, by the hash that also decides its split."""

    texts: dict[int, Text] = field(default_factory=dict)
    unusable: int = 0  # rows that training leaves out, or stops at
    bare: int = 0  # rows of this split that have no prompt: every token is learned
    tools: int = 0  # prompts with descriptions of tools, which are not among the texts


def prompts_of(section: DataSection, kind: RowKind, split: Split) -> Prompts:
    """In the order of the files. UserError for sources that are not there, or columns that they lack."""
    found = Prompts()
    own = isinstance(getattr(section, split), str)
    for feed in plan(section):
        if feed.split == (split if own else "train"):
            _read(found, feed, section, kind, split)
    return found


def _read(found: Prompts, feed: Feed, section: DataSection, kind: RowKind, split: Split) -> None:
    for rows in _rows(feed, section, kind):
        if rows is None:
            found.unusable += 1
        for row in rows or ():
            key = key_of(row)
            if split_of(feed, section, key) != split:
                continue
            if row.prompt is None:
                found.bare += 1
            elif key not in found.texts:
                found.texts[key] = row.prompt
                found.tools += row.tools is not None


def _rows(feed: Feed, section: DataSection, kind: RowKind) -> Iterator[list[Row] | None]:
    """What each row of the file has become; None for one that cannot be used."""
    source = feed.source
    reader = reader_of(feed, section, kind)
    for number, (_, raw) in enumerate(iterate(source.source, source.split, section.num_rows)):
        if not number:
            reader.check_columns(raw, source.source)
        try:
            yield reader.read(raw)
        except (BadRow, RecursionError):
            yield None
