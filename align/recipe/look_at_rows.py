"""The rows of a recipe's data, looked at by `align check` before a run does: a sample spread over each file; and
whether they have the columns that rewards and hints are read from, as far as the first of them tell.

Data sets on the hub and saved folders are looked at when the run begins.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import Any

from align.data.hints import COLUMN, hints_of
from align.data.reading.messages import BadRow
from align.data.reading.sources import NESTED, Place, iterate, resolve
from align.data.settings import DataSection, DataSource
from align.errors import Mistakes, UserError
from align.needs import Needs
from align.recipe.look_at_data import count_rows, named_sources, reader_of
from align.recipe.text import Written
from align.rewards.columns import Finding, misfit, misfits

SAMPLE = 1000  # rows of a source
SHOWN = 5  # bad rows that are shown in full
RENAMED = {"tools", "chat_template_kwargs"}  # that rewards see under this name, whatever it is in the data


@dataclass
class Look:
    """What has been seen of a source."""

    rows: int = 0
    num_bad: int = 0
    bad: list[str] = field(default_factory=list)  # the first few


def look_at_rows(data: DataSection, needs: Needs) -> list[str]:
    """Says which rows were looked at, a line for each source. Mistakes with those that training would refuse."""
    mistakes, said = [], []
    for key, source in named_sources(data):
        path = resolve(source.source)
        if path is None or path.is_dir():
            where = "on the hub" if path is None else "in a saved folder"
            said.append(f"{source.source}: its rows were not looked at, they are {where} (--all: all of them)")
            continue
        total = count_rows(source) or 0
        total = min(total, data.num_rows or total)
        look = Look()
        try:
            every = max(1, ceil(total / SAMPLE))
            for place, row in _looked_at(look, data, needs, source, every):
                if needs.batch.hinted and key.startswith("data.train"):
                    _refuse_hints(place, row)
        except UserError as error:
            mistakes.append(f"{key}: {error}")
            continue
        mistakes += _wrong(key, look, data)
        said.append(_told(source, look, total, data.bad_rows == "drop"))
    if mistakes:
        raise Mistakes(mistakes)
    return said


def _looked_at(
    look: Look, data: DataSection, needs: Needs, source: DataSource, every: int
) -> Iterator[tuple[Place, dict[str, Any]]]:
    """The rows that can be read."""
    reader = reader_of(data, needs, source)
    for place, row in iterate(source.source, source.split, every=every):
        if data.num_rows and place.row > data.num_rows:
            break
        look.rows += 1
        try:
            reader.read(row)
        except (BadRow, RecursionError) as error:
            look.num_bad += 1
            finding = NESTED if isinstance(error, RecursionError) else error
            look.bad += [f"{place}: {finding}"] if len(look.bad) < SHOWN else []
            continue
        yield place, row


def _refuse_hints(place: Place, row: dict[str, Any]) -> None:
    """Whatever `data.bad_rows` says: of a row that is kept its hints are."""
    try:
        hints_of(row)
    except ValueError as error:
        raise UserError(f"{place}: {error}") from None


def _wrong(key: str, look: Look, data: DataSection) -> Iterator[str]:
    if not look.num_bad or (data.bad_rows == "drop" and look.num_bad < look.rows):
        return
    yield from (f"{key}: {finding}" for finding in look.bad)
    cure = "is data.columns right?" if look.num_bad == look.rows else "correct them, or set data.bad_rows: drop"
    yield f"{key}: {look.num_bad:,} of the {look.rows:,} rows that were looked at cannot be used; {cure}"


def _told(source: DataSource, look: Look, total: int, dropping: bool) -> str:
    some = f"{look.rows:,} of about {total:,} rows were looked at (--all: all of them)"
    seen = f"all {look.rows:,} rows were looked at" if look.rows >= total else some
    dropped = f"; {look.num_bad:,} of them will be dropped" if dropping and look.num_bad else ""
    return f"{source.source}: {seen}{dropped}"


# ---- columns -------------------------------------------------------------------------------------------------------


def check_columns(written: Written, data: DataSection, needs: Needs, rewards: Mapping[str, object]) -> None:
    """`rewards`: the functions by the dotted keys that name them."""
    findings: dict[str, Finding] = {key: functools.partial(misfit, function) for key, function in rewards.items()}
    told: set[str] = set()
    for key, source in named_sources(data):
        hinted = {key: _hints} if key.startswith("data.train") and needs.batch.hinted else {}
        renamed = RENAMED & {*data.columns, *source.columns}
        for place, text in _misfits(findings | hinted, source, renamed).items():
            if place not in told:  # the next source lacks it, too
                written.wrong(place, text)
            told.add(place)


def _misfits(findings: Mapping[str, Finding], source: DataSource, renamed: Collection[str]) -> dict[str, str]:
    """Nothing where the source cannot be read: that is told elsewhere."""
    try:
        path = resolve(source.source)
        if path is None or path.is_dir():
            return {}
        rows = ([*row, *renamed] for _, row in iterate(source.source, source.split))
        return misfits(findings, rows, source.source)
    except (UserError, OSError):
        return {}


def _hints(columns: Collection[str], whose: str) -> str:
    finding = f"{whose} has no column {COLUMN}, which the method tells where completions fail"
    wanted = f"a list of texts, from the least hint to the most. There are {', '.join(dict.fromkeys(columns))}"
    return "" if COLUMN in columns else f"{finding}: {wanted}"
