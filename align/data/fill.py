"""The pass over all sources: rows -> text -> tokens -> the right split, with every loss counted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any, Literal

from align.batches import RowKind, Tokens
from align.data.reading.messages import BadRow
from align.data.reading.rows import Row, RowReader
from align.data.reading.sources import NESTED, Place, is_arrow, iterate
from align.data.settings import DataSection, DataSource
from align.data.store import Counts, Entry, StoreWriter
from align.data.tally import Tally
from align.data.text.script import PrefixBroken, Script, Writer, check_characters
from align.data.text.special import Names
from align.data.text.tokens import Encoded, Encoder, cut_prompts, fit

SplitName = Literal["train", "validation", "test", "trusted"]
Writers = dict[SplitName, StoreWriter]
ROWS_AT_ONCE = 512  # tokenized in one call


@dataclass(frozen=True)
class Feed:
    """A source and the split that it feeds; `train` may give rows to the others by the hash of their prompts."""

    split: SplitName
    source: DataSource
    again: bool = False  # the same rows are read with other columns too, which its name then tells

    @property
    def name(self) -> str:
        where = self.source.source if self.source.split == "train" else f"{self.source.source}[{self.source.split}]"
        columns = ", ".join(f"{ours}: {theirs}" for ours, theirs in self.source.columns.items())
        return f"{where} ({columns or 'as it is'})" if self.again else where


@dataclass(frozen=True)
class Item:
    """A row on its way through."""

    place: Place
    row: Row
    script: Script
    split: SplitName
    key: int
    extras: bytes


@dataclass(frozen=True, kw_only=True)
class Fill:
    """One pass with one template."""

    section: DataSection
    kind: RowKind
    numbers: tuple[str, ...]
    tokenizer: Any
    tick: Callable[[int], None]

    def run(self, feeds: list[Feed], writers: Writers, template: str) -> list[str]:
        """Fills the writers; returns what the user should be told. UserError for bad rows (unless they may be dropped),
        and for too many overlong ones; PrefixBroken(finding, place) where the template rewrites earlier turns."""
        names = Names(self.tokenizer, self.section.special_tokens)
        writer = Writer(self.tokenizer, template, self.section.loss_on, names)
        encoder = Encoder(self.tokenizer, template)
        tally = Tally(self.section)
        self.tick(done := 0)
        for feed in feeds:
            fed: list[SplitName] = ["train", "validation", "test"] if feed.split == "train" else [feed.split]
            for name in fed:
                writers[name].counts.sources.setdefault(feed.name, 0)
            for items, read in self._items(feed, writer, writers, tally):
                self._write(items, feed, encoder, writers, tally)
                done += read
                self.tick(done)
        tally.judge(done)
        return tally.notes({name: writer.counts for name, writer in writers.items()}, template)

    def _items(self, feed: Feed, writer: Writer, writers: Writers, tally: Tally) -> Iterator[tuple[list[Item], int]]:
        """Portions of rows that are usable as text, and how many rows were read for each."""
        reader = reader_of(feed, self.section, self.kind, numbers=self.numbers, as_text=writer.as_text)
        rows = iterate(feed.source.source, feed.source.split, self.section.num_rows)
        first = True
        while portion := list(islice(rows, ROWS_AT_ONCE)):
            if first:
                reader.check_columns(portion[0][1], feed.source.source)
                first = False
            items: list[Item] = []
            for place, raw in portion:
                try:
                    made = [self._item(place, row, writer, feed) for row in reader.read(raw)]
                except (BadRow, RecursionError) as error:
                    writers[feed.split].counts.read += 1
                    writers[feed.split].counts.bad += 1
                    tally.refuse(place, NESTED if isinstance(error, RecursionError) else error)
                else:
                    writers[made[0].split].counts.read += 1
                    items += made
            yield items, len(portion)

    def _item(self, place: Place, row: Row, writer: Writer, feed: Feed) -> Item:
        key = key_of(row)
        try:
            script = writer.script(row)
        except PrefixBroken as error:
            raise PrefixBroken(*error.args, str(place)) from None
        check_characters(script)
        extras = json.dumps(row.extras, default=str).encode() if row.extras else b""
        return Item(place, row, script, split_of(feed, self.section, key), key, extras)

    def _write(self, items: list[Item], feed: Feed, encoder: Encoder, writers: Writers, tally: Tally) -> None:
        entries: dict[SplitName, list[Entry]] = {name: [] for name in writers}
        encoded = encoder.encode([i.script for i in items])
        for place, made in groupby(zip(items, encoded, strict=True), lambda pair: pair[0].place):
            row = list(made)
            try:
                usable = _usable(row)
            except BadRow as error:
                writers[row[0][0].split].counts.bad += 1
                tally.refuse(place, error)
                continue
            tally.tell(feed.name, (text for item, _ in usable for text in item.script.told))
            gone = [c for item, _ in usable for c in encoder.left_out(item.script)]
            tally.tell(feed.name, (f"{c!r} has no token, and is left out" for c in gone))
            if encoder.unknown is not None and any(found.holds(encoder.unknown) for _, found in usable):
                tally.tell(feed.name, [f"{self.tokenizer.unk_token} stands for what the tokenizer has no token for"])
            for item, found in usable:
                entry = self._entry(item, found, feed, encoder, writers[item.split].counts, tally)
                entries[item.split] += [entry] if entry else []
        for name, found in entries.items():
            writers[name].append(found)

    def _entry(
        self, item: Item, encoded: Encoded, feed: Feed, encoder: Encoder, counts: Counts, tally: Tally
    ) -> Entry | None:
        """None where it is too long."""
        counts.apart += encoded.apart
        counts.templated += item.script.templated
        tally.usable += 1
        begun = self._within_prompt_limit(encoded.members, encoder.own)
        tally.lengths.append(max(len(m) for m in begun))
        members, cut = fit(begun, self.section.max_length, self.section.overlong, encoder.own)
        if members is None:
            counts.overlong += 1
            tally.overlong += 1
            return None
        counts.shortened += cut or begun is not encoded.members
        counts.sources[feed.name] += 1
        source = list(counts.sources).index(feed.name)
        return Entry(
            members=members, numbers=item.row.numbers, key=item.key, source=source, row=item.place.row,
            extras=item.extras,
        )  # fmt: skip

    def _within_prompt_limit(self, members: tuple[Tokens, ...], bos: int | None) -> tuple[Tokens, ...]:
        limit = self.section.max_prompt_length
        return (cut_prompts(members, limit, bos) or members) if limit else members


def reader_of(feed: Feed, section: DataSection, kind: RowKind, **other: Any) -> RowReader:
    """`other` are fields of RowReader that the section does not say."""
    return RowReader(
        kind=kind, loss_on=section.loss_on, columns={**section.columns, **feed.source.columns},
        filled_in=is_arrow(feed.source.source), **other,
    )  # fmt: skip


def key_of(row: Row) -> int:
    """64 bits of the hash of its prompt."""
    return int.from_bytes(hashlib.sha256(row.key.encode("utf-8", "surrogatepass")).digest()[:8], "little")


def split_of(feed: Feed, section: DataSection, key: int) -> SplitName:
    """A share of all prompts: the same prompt always falls into the same split, whatever the file."""
    test, validation = (0.0 if isinstance(s, str) else s for s in (section.test, section.validation))
    if feed.split != "train":
        return feed.split
    place = key / 2**64
    return "test" if place < test else "validation" if place < test + validation else "train"


def _usable(made: list[tuple[Item, Encoded | BadRow]]) -> list[tuple[Item, Encoded]]:
    """What a row of the file has become. BadRow where the tokenizer cannot read it, and where answers that are to be
    compared are the same tokens."""
    found: list[tuple[Item, Encoded]] = []
    for item, encoded in made:
        if isinstance(encoded, BadRow):
            raise encoded
        found.append((item, encoded))
    answers = [m.completion.tobytes() for _, encoded in found for m in encoded.members]
    if len(set(answers)) < len(answers):
        cut = " of the chat template" if made[0][0].script.templated else ""
        raise BadRow(
            f"`chosen` and `rejected` are the same tokens{cut}: what they differ in is left out, so there is no "
            "preference in this row"
        )
    return found
