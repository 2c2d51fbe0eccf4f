"""The pass over all sources: rows -> text -> tokens -> the right split, with every loss counted."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

import numpy as np

from align.batches import RowKind, Tokens
from align.data.chat import PrefixBroken, Script, Writer, check_characters
from align.data.messages import BadRow
from align.data.rows import Reader, Row
from align.data.settings import DataSection, Source
from align.data.sources import NESTED, Place, is_arrow, iterate
from align.data.store import Entry, StoreWriter
from align.data.tokens import Encoder, cut_prompts, fit
from align.errors import UserError

SplitName = Literal["train", "validation", "test"]
Writers = dict[SplitName, StoreWriter]
ROWS_AT_ONCE = 512  # tokenized in one call
SHOWN = 5  # bad rows that are shown in full
OVERLONG_SHARE = 0.1  # of the usable rows; more than this dropped for length is a mistake


@dataclass(frozen=True)
class Job:
    """A source and the split that it feeds; `train` may give rows to the others by the hash of their prompts."""

    split: SplitName
    source: Source
    again: bool = False  # the same rows are read with other columns too, which its name then tells

    @property
    def name(self) -> str:
        where = self.source.source if self.source.split == "train" else f"{self.source.source}[{self.source.split}]"
        columns = ", ".join(f"{ours}: {theirs}" for ours, theirs in self.source.columns.items())
        return f"{where} ({columns or 'as it is'})" if self.again else where


@dataclass
class Tally:
    """What goes into the final reports."""

    bad: list[str] = field(default_factory=list)  # the first few
    num_bad: int = 0
    usable: int = 0
    overlong: int = 0
    lengths: array[int] = field(default_factory=lambda: array("i"))  # longest member of each usable row, before any cut


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

    def run(self, jobs: list[Job], writers: Writers, template: str) -> list[str]:
        """Fills the writers; returns what the user should be told. UserError for bad rows (unless they may be dropped),
        and for too many overlong ones; PrefixBroken(finding, place) where the template rewrites earlier turns."""
        encoder = Encoder(self.tokenizer)
        writer = Writer(self.tokenizer, template, self.section.loss_on)
        tally = Tally()
        self.tick(done := 0)
        for job in jobs:
            fed: list[SplitName] = list(writers) if job.split == "train" else [job.split]
            for name in fed:
                writers[name].counts.sources.setdefault(job.name, 0)
            for items, read in self._items(job, writer, writers, tally):
                self._write(items, job, encoder, writers, tally)
                done += read
                self.tick(done)
        self._judge(tally, done)
        return self._notes(writers, tally)

    def _items(self, job: Job, writer: Writer, writers: Writers, tally: Tally) -> Iterator[tuple[list[Item], int]]:
        """Portions of rows that are usable as text, and how many rows were read for each."""
        columns = {**self.section.columns, **job.source.columns}
        reader = Reader(
            kind=self.kind, numbers=self.numbers, loss_on=self.section.loss_on, columns=columns,
            filled_in=is_arrow(job.source.source),
        )  # fmt: skip
        rows = iterate(job.source.source, job.source.split, self.section.num_rows)
        first = True
        while portion := list(islice(rows, ROWS_AT_ONCE)):
            if first:
                reader.check_columns(portion[0][1], job.source.source)
                first = False
            items: list[Item] = []
            for place, raw in portion:
                try:
                    made = [self._item(place, row, writer, job) for row in reader.read(raw)]
                except (BadRow, RecursionError) as error:
                    writers[job.split].counts.read += 1
                    writers[job.split].counts.bad += 1
                    tally.num_bad += 1
                    finding = NESTED if isinstance(error, RecursionError) else error
                    tally.bad += [f"{place}: {finding}"] if len(tally.bad) < SHOWN else []
                else:
                    writers[made[0].split].counts.read += 1
                    items += made
            yield items, len(portion)

    def _item(self, place: Place, row: Row, writer: Writer, job: Job) -> Item:
        key = int.from_bytes(hashlib.sha256(row.key.encode("utf-8", "surrogatepass")).digest()[:8], "little")
        try:
            script = writer.script(row)
        except PrefixBroken as error:
            raise PrefixBroken(*error.args, str(place)) from None
        check_characters(script)
        extras = json.dumps(row.extras, default=str).encode() if row.extras else b""
        return Item(place, row, script, self._split(job, key), key, extras)

    def _split(self, job: Job, key: int) -> SplitName:
        """A share of all prompts: the same prompt always falls into the same split, whatever the file."""
        shares = (self.section.test, self.section.validation)
        test, validation = (0.0 if isinstance(s, str) else s for s in shares)
        if job.split != "train":
            return job.split
        place = key / 2**64
        return "test" if place < test else "validation" if place < test + validation else "train"

    def _write(self, items: list[Item], job: Job, encoder: Encoder, writers: Writers, tally: Tally) -> None:
        bos = self.tokenizer.bos_token_id
        entries: dict[SplitName, list[Entry]] = {name: [] for name in writers}
        for item, encoded in zip(items, encoder.encode([i.script for i in items]), strict=True):
            counts = writers[item.split].counts
            counts.apart += encoded.apart
            counts.templated += item.script.templated
            tally.usable += 1
            begun = self._within_prompt_limit(encoded.members, bos)
            tally.lengths.append(max(len(m) for m in begun))
            members, cut = fit(begun, self.section.max_length, self.section.overlong, bos)
            if members is None:
                counts.overlong += 1
                tally.overlong += 1
                continue
            counts.shortened += cut or begun is not encoded.members
            counts.sources[job.name] += 1
            source = list(counts.sources).index(job.name)
            entry = Entry(
                members=members, numbers=item.row.numbers, key=item.key, source=source, row=item.place.row,
                extras=item.extras,
            )  # fmt: skip
            entries[item.split].append(entry)
        for name, found in entries.items():
            writers[name].append(found)

    def _within_prompt_limit(self, members: tuple[Tokens, ...], bos: int | None) -> tuple[Tokens, ...]:
        limit = self.section.max_prompt_length
        return (cut_prompts(members, limit, bos) or members) if limit else members

    def _judge(self, tally: Tally, read: int) -> None:
        if tally.num_bad and (self.section.bad_rows == "error" or tally.usable == 0):
            more = f"\n... and {tally.num_bad - len(tally.bad)} more" if tally.num_bad > len(tally.bad) else ""
            cure = "correct them, or set data.bad_rows: drop" if tally.usable else "is data.columns right?"
            raise UserError("\n".join(tally.bad) + f"{more}\n{tally.num_bad} of {read} rows cannot be used; {cure}")
        if tally.overlong > OVERLONG_SHARE * tally.usable:
            lengths = np.frombuffer(tally.lengths, dtype=np.int32)
            half, most, nearly, longest = (int(q) for q in np.quantile(lengths, (0.5, 0.9, 0.99, 1.0), method="higher"))
            limit = self.section.max_length
            share = f"{tally.overlong} of {tally.usable} rows ({tally.overlong / tally.usable:.0%})"
            raise UserError(
                f"data.max_length: {share} do not fit into {limit} tokens with data.overlong: {self.section.overlong}. "
                f"Half of the rows have up to {half} tokens, 90 % up to {most}, 99 % up to {nearly}, the longest "
                f"{longest}. Set data.max_length={most} or more (as far as the model's context goes), or "
                "data.overlong: cut_prompt or cut_completion"
            )

    def _notes(self, writers: Writers, tally: Tally) -> list[str]:
        notes: list[str] = []
        prompt = self.section.max_prompt_length
        cut_to = f"{self.section.max_length} tokens" + (f", {prompt} of the prompt" if prompt else "")
        for name, writer in writers.items():
            counts = writer.counts
            found = {
                "rows dropped that cannot be used": counts.bad,
                f"rows dropped with more than {self.section.max_length} tokens": counts.overlong,
                f"rows cut to {cut_to}": counts.shortened,
                "rows tokenized apart, because the tokenizer merges across the end of the prompt": counts.apart,
            }
            notes += [f"{name}: {n} {what}" for what, n in found.items() if n]
        return notes + [f"dropped: {finding}" for finding in tally.bad]
