"""A recipe's data, looked at from outside: is it there, does its first row have the columns, how many rows are there.

The reading itself is `align.data`'s. Nothing is fetched: data sets on the hub are looked at when the run begins.
"""

from __future__ import annotations

import csv
import json
import re
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from align.data.reading.messages import BadRow
from align.data.reading.rows import RowReader
from align.data.reading.sources import NESTED, file_format, is_arrow, iterate, open_text, resolve, saved_split
from align.data.settings import DataSection, DataSource
from align.data.text.template import unread_names
from align.errors import UserError
from align.needs import Needs
from align.recipe.look_at_models import cached, hub_like, offline
from align.recipe.text import Written


def check_data(written: Written, data: DataSection, needs: Needs | None) -> None:
    for key, source in named_sources(data):
        try:
            _check(data, needs, source)
        except UserError as error:
            text = str(error).removeprefix("data.")
            inner = text.split(": ")[0]
            if inner == "loss_on" or inner.startswith("columns."):
                written.wrong(f"data.{inner}", text.removeprefix(f"{inner}: "))
                written.broken.add(f"data.{inner}")  # the same mapping fails for every source
            else:
                written.wrong(key, text)
        except OSError as error:
            written.wrong(key, f"{source.source}: cannot be read: {error.strerror}")
    if data.max_prompt_length and needs is not None and needs.batch.kind == "prompts":
        written.wrong("data.max_prompt_length", "the rows are prompts alone, which data.max_length bounds; remove it")
    if data.max_prompt_length and data.loss_on == "all":
        written.wrong("data.max_prompt_length", "with data.loss_on: all there is no prompt; remove one of them")
    if data.chat_template and not Path(data.chat_template).is_file():
        there = "a Jinja template, or empty text for the tokenizer's own"
        written.wrong("data.chat_template", f"no such file: {data.chat_template}; expected {there}")
    elif data.chat_template:
        with suppress(OSError, UnicodeDecodeError):  # told when it is read
            text = Path(data.chat_template).read_text(encoding="utf-8")
            for name in unread_names(text, data.chat_template_kwargs):
                written.wrong(f"data.chat_template_kwargs.{name}", "the chat template reads nothing of this name")


def first_told(data: DataSection, needs: Needs) -> Iterator[str]:
    """What is worth knowing of the first row of each file, where all rows will be counted when the run begins."""
    for _, source in named_sources(data):
        path = resolve(source.source)
        if path is not None and path.is_file():
            place, row = next(iterate(source.source, source.split, 1))
            with suppress(BadRow, RecursionError):  # rows that may be dropped
                found = reader_of(data, needs, source).read(row)
                yield from (f"{place}: {told}" for told in found[0].told)


def named_sources(data: DataSection) -> Iterator[tuple[str, DataSource]]:
    """Every source with the dotted key that names it: the training mixture, then all else that is read."""
    if isinstance(data.train, list):
        yield from ((f"data.train.{i}", s) for i, s in enumerate(data.train))
    elif data.train:
        yield "data.train", DataSource(source=data.train)
    for key in ("validation", "test"):
        if isinstance(source := getattr(data, key), str):
            yield f"data.{key}", DataSource(source=source, split=key)
    if data.trusted:
        yield "data.trusted", DataSource(source=data.trusted)


def _check(data: DataSection, needs: Needs | None, source: DataSource) -> None:
    path = resolve(source.source)
    if path is None:
        name = re.split(r"[:\[]", source.source)[0]  # with its revision
        if not hub_like(name):
            raise UserError(f"no such file or folder: {source.source}")
        if offline() and not cached(name, "datasets"):
            raise UserError(
                f"no such file or folder: {name}; as a hub name it is not in the cache, and the hub is switched off"
            )
        return
    reader = None if needs is None else reader_of(data, needs, source)
    if path.is_dir():
        saved_split(path, source.source, source.split)
        return  # save_to_disk's folders take a second to open
    place, row = next(iterate(source.source, source.split, 1))
    if reader is None:
        return
    reader.check_columns(row, source.source)
    try:
        reader.read(row)
    except (BadRow, RecursionError) as error:
        if data.bad_rows == "error":
            raise UserError(f"{place}: {NESTED if isinstance(error, RecursionError) else error}") from None


def reader_of(data: DataSection, needs: Needs, source: DataSource) -> RowReader:
    return RowReader(
        kind=needs.batch.kind, numbers=needs.numbers(), loss_on=data.loss_on,
        columns={**data.columns, **source.columns}, filled_in=is_arrow(source.source),
    )  # fmt: skip


# ---- counting -------------------------------------------------------------------------------------------------------


UNREADABLE = (OSError, ValueError, EOFError, zlib.error, csv.Error)


def count_rows(source: DataSource) -> int | None:
    """Rows of a source, without parsing more than it takes; None where only the hub could tell, or where it cannot be
    read: whoever reads it names the row."""
    try:
        return _count(source)
    except UserError:  # what is asked for is wrong, not what is there
        raise
    except UNREADABLE:
        return None


def _count(source: DataSource) -> int | None:
    path = resolve(source.source)
    if path is None:
        return None
    if path.is_dir():
        return _count_saved(saved_split(path, source.source, source.split))
    kind = file_format(path)
    if kind == ".parquet":
        import pyarrow.parquet as pq

        return pq.read_metadata(path).num_rows
    with open_text(path) as stream:
        if kind == ".csv":
            return max(0, sum(1 for _ in csv.reader(stream)) - 1)
        if kind == ".json" and next((c for c in iter(lambda: stream.read(1), "") if not c.isspace()), "") == "[":
            return sum(1 for _ in iterate(source.source))
        stream.seek(0)
        return sum(1 for line in stream if line.strip())


def num_read(data: DataSection) -> int | None:
    """Rows that are read to prepare the data; None where nobody knows before."""
    try:
        counts = [count_rows(s) for _, s in named_sources(data)]
    except UserError:
        return None  # reading will say what is wrong
    return None if None in counts else sum(min(c, data.num_rows or c) for c in counts if c is not None)


def train_rows(data: DataSection) -> int | None:
    """Rows of an epoch, before any is dropped, less the shares that are held out."""
    sources = [s for key, s in named_sources(data) if key.startswith("data.train")]
    counts = [count_rows(s) for s in sources]
    if any(c is None for c in counts):
        return None
    total = sum(min(c, data.num_rows or c) for c in counts if c is not None)
    held_out = sum(s for s in (data.validation, data.test) if not isinstance(s, str))
    return round(total * (1 - held_out))


def _count_saved(folder: Path) -> int | None:
    """From the heads of the Arrow batches; what dataset_info.json says may be of the data before a `select`."""
    import pyarrow as pa

    try:
        parts = json.loads((folder / "state.json").read_text(encoding="utf-8"))["_data_files"]
        count = 0
        for part in parts:
            with pa.memory_map(str(folder / part["filename"])) as file, pa.ipc.open_stream(file) as batches:
                count += sum(batch.num_rows for batch in batches)
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException):
        return None  # loading will say what is wrong
    return count
