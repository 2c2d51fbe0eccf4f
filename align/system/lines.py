"""Append-only files of one JSON object a line, one file for each process that writes, merged when they are read.

So nobody waits for a lock, a kill tears the last line of one file at most, and it holds on a file system that several
machines share. A torn last line is told and left out; any other damage is the user's to look at.
"""

from __future__ import annotations

import codecs
import functools
import json
import os
import re
import secrets
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from align.errors import RunError, UserError
from align.system.files import cut, inner_folder, open_end
from align.system.terminal import say

LONGEST = 80  # characters of a name that are kept in the name of a file
Tell = Callable[[str], object]


def warn(text: str) -> None:
    """Tells on the standard error, beside what a command prints."""
    say(f"warning: {text}", file=sys.stderr)


def safe_name(name: str) -> str:
    """A file name for any name: `org/model` becomes `org_model-` and eight digits, which keep it apart from others."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_")[:LONGEST]
    return plain if plain == name else f"{plain or 'x'}-{sha256(name.encode(errors='replace')).hexdigest()[:8]}"


@functools.cache
def _mark_of(process: int) -> str:
    return secrets.token_hex(4)


def writer_file(folder: Path, stem: str) -> Path:
    """The file in a folder that this process alone appends to; a forked child has another."""
    return folder / f"{safe_name(stem)}.{_mark_of(os.getpid())}.jsonl"


def append_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Appends whole lines in one go, in a folder that is made where there is none. RunError where that fails."""
    lines = [json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows]
    if not lines:
        return
    try:
        inner_folder(path.parent)
        drop_torn_end(path)
        with open_end(path) as file:
            file.write("".join(lines))
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error}; make room, then start the command again") from error


def drop_torn_end(path: Path) -> None:
    """Cuts what follows the last line end: of a file that nobody else writes to, if it is there."""
    if not path.exists():
        return
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        if size == 0 or (file.seek(-1, os.SEEK_END), file.read(1))[1] == b"\n":
            return
        file.seek(0)
        whole = file.read().rfind(b"\n") + 1
    cut(path, whole)


def read_lines(path: Path, tell: Tell = warn) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a file with their places, `file:line`. UserError for a line, other than the last, that is none."""
    try:
        lines = path.read_bytes().removeprefix(codecs.BOM_UTF8).split(b"\n")  # editors of Windows begin with a mark
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    last = max((number for number, line in enumerate(lines, start=1) if line.strip()), default=0)
    for number, line in enumerate(lines[:last], start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, parse_constant=_no_number)
            if not isinstance(row, dict):
                raise ValueError(f"is a {type(row).__name__}, expected an object")
        except ValueError as error:
            if number == last:
                tell(f"{path}:{number}: the last line is damaged, as a kill leaves it, and is left out ({error})")
                return
            raise UserError(f"{path}:{number}: is no JSON object ({error}); mend or remove the line") from None
        yield f"{path}:{number}", row


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def read_folder(folder: Path, tell: Tell = warn) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of all `*.jsonl` of a folder, file after file by name; nothing where there is no folder."""
    for path in sorted(folder.glob("*.jsonl")):
        yield from read_lines(path, tell)
