"""Where rows come from: files, folders, the hub, the shipped assets; read one after the other, never all at once.

Every row comes with its `Place`, so that a later complaint can name the file and the row. Fingerprints are of the
contents, not of names or dates.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import re
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import Any

from align.errors import UserError, did_you_mean, near_path

TEXT_FORMATS = (".jsonl", ".json", ".csv")
ACCEPTED = "FILE.jsonl|json|csv (or .gz), .parquet, folders of save_to_disk, NAME@REVISION:CONFIG[SPLIT], asset:NAME"
HUB_NAME = re.compile(r"([\w.-]+(?:/[\w.-]+)?)(?:@([\w./-]+))?(?::([\w.-]+))?(?:\[([\w.+:%-]+)\])?")
LOADERS = ("json", "csv", "parquet", "arrow", "text", "xml", "pandas", "sql", "webdataset")
CHUNK = 1 << 20  # characters of a JSON array, bytes of a file being hashed
ROWS_AT_ONCE = 1000  # of a Parquet file
NESTED = "its objects are nested too deeply; is it a row?"


@dataclass(frozen=True, slots=True)
class Place:
    """A row of a source; rows count from 1 (lines, in a .jsonl file)."""

    source: str
    row: int

    def __str__(self) -> str:
        return f"{self.source}: row {self.row}"


def iterate(
    source: str, split: str = "train", num_rows: int = 0, every: int = 1
) -> Iterator[tuple[Place, dict[str, Any]]]:
    """The rows of `source` in file order; the first `num_rows` of them, or all for 0. With `every`, each n-th alone,
    and of JSON lines the last, where a file is cut short.

    Nulls inside of a column are left as the format has them (see `is_arrow`).
    `split` matters for hub data sets and for folders that hold several splits.
    Raises UserError for a missing source, an unknown format, text that cannot be parsed, and for no rows at all.
    """
    count = 0
    for number, row in _numbered(source, split, every):
        place = Place(source, number)
        if not isinstance(row, dict):
            raise UserError(f"{place}: a row must be an object with named columns, found {type(row).__name__}")
        yield place, row
        count += 1
        if count == num_rows:
            return
    if count == 0:
        raise UserError(f"{source}: the data set is empty")


def fingerprint(source: str, split: str = "train") -> str:
    """sha256 of the contents of a file or folder; of the hub's own fingerprint otherwise."""
    path = resolve(source)
    digest = hashlib.sha256()
    if path is None:
        digest.update(_from_hub(source, split)._fingerprint.encode())
        return digest.hexdigest()
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    for file in files:
        digest.update(f"{file.relative_to(path) if path.is_dir() else ''}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as stream:
            while block := stream.read(CHUNK):
                digest.update(block)
    return digest.hexdigest()


def resolve(source: str) -> Path | None:
    """The file or folder behind `source`; None for a hub name. UserError where there is nothing of that name."""
    if source.startswith("asset:"):
        return _asset(source)
    path = Path(source).expanduser()
    if path.is_dir() and not any((path / name).exists() for name in ("dataset_dict.json", "state.json")):
        raise UserError(f"{source}: this folder was not made by datasets.save_to_disk; accepted: {ACCEPTED}")
    if path.exists() and not path.is_dir() and file_format(path) is None:
        raise UserError(f"{source}: unknown kind of file; accepted: {ACCEPTED}")
    if path.exists():
        return path
    if file_format(path) is None and (named := HUB_NAME.fullmatch(source)):
        if named[4] and (here := Path(named[1])).exists():
            raise UserError(f"{source}: {here} is here; a split of it is a file of its own, or {here}/{named[4]}")
        if named[1] in LOADERS:  # asked for without a file, it takes whatever lies in this folder
            raise UserError(f"{source}: {named[1]} is a loader, and no data set; name the file of rows")
        return None
    raise UserError(f"{source}: no such file{near_path(path) or '.'} Accepted: {ACCEPTED}")


def split_for(source: str, name: str) -> str:
    """The split of `source` that is the recipe's `name`: its own where there are several, else the only one."""
    path = resolve(source)
    return name if path is None or (path / "dataset_dict.json").is_file() else "train"


def saved_split(path: Path, source: str, split: str) -> Path:
    """Where a folder of save_to_disk holds this split. UserError naming those that it has."""
    about = path / "dataset_dict.json"
    if not about.is_file():
        return path
    try:
        names = [str(name) for name in json.loads(about.read_text(encoding="utf-8"))["splits"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{source}: cannot be loaded: {about.name}: {error}") from None
    if split not in names:
        there = f"there are {', '.join(names)}.{did_you_mean(split, names)} A split is named as {source}/SPLIT"
        raise UserError(f"{source}: no split {split}; {there}")
    return path / split


def is_arrow(source: str) -> bool:
    """Whether rows come as Arrow's structs: each has the keys of all rows, with null where the row itself has none."""
    path = resolve(source)
    return path is None or path.is_dir() or file_format(path) == ".parquet"


def file_format(path: Path) -> str | None:
    """`.jsonl`, `.json`, `.csv` or `.parquet`; None for anything else."""
    name = path.name.lower()
    if name.endswith(".parquet"):
        return ".parquet"
    return next((f for f in TEXT_FORMATS if name.removesuffix(".gz").endswith(f)), None)


def _asset(source: str) -> Path:
    from align import assets

    root = Path(assets.__file__).parent
    path = root / source.removeprefix("asset:")
    if path.is_file() and file_format(path) and path.resolve().is_relative_to(root.resolve()):
        return path
    files = (p for p in root.rglob("*") if file_format(p) and p.is_file() and not (p.parent / "config.json").exists())
    known = sorted(f"asset:{p.relative_to(root).as_posix()}" for p in files)
    raise UserError(f"{source}: no such data set; there are {', '.join(known)}.{did_you_mean(source, known)}")


def _numbered(source: str, split: str, every: int) -> Iterator[tuple[int, Any]]:
    path = resolve(source)
    if path is None or path.is_dir() or file_format(path) == ".parquet":
        saved = _from_disk(path, source, split) if path and path.is_dir() else None
        rows = _from_hub(source, split) if path is None else _parquet(path, source) if saved is None else saved
        yield from islice(enumerate(rows, start=1), 0, None, every)
    else:
        try:
            with open_text(path) as stream:
                if file_format(path) == ".jsonl":
                    yield from _lines(stream, source, every)
                else:
                    read = _array if file_format(path) == ".json" else _table
                    yield from islice(read(stream, source), 0, None, every)
        except UnicodeDecodeError:
            raise UserError(f"{source}: {_not_utf8(path)}; save the file as UTF-8") from None
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            cure = "copy it again, or drop the .gz of its name"
            raise UserError(f"{source}: cannot be read: not a whole gzip file: {error}; {cure}") from None


def open_text(path: Path) -> TextIOWrapper:
    if path.name.lower().endswith(".gz"):
        return TextIOWrapper(gzip.open(path), encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _not_utf8(path: Path) -> str:
    """The first line that is not UTF-8, shown as Windows' western code page has it, which it mostly is."""
    with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                near = line[max(0, error.start - 10) : error.start + 10].decode("cp1252", errors="replace").strip()
                return f"line {number}: byte 0x{line[error.start]:02x} is not UTF-8, near {near!r}"
    return "not UTF-8"


def _lines(stream: TextIOWrapper, source: str, every: int = 1) -> Iterator[tuple[int, Any]]:
    number, line = 0, ""
    for number, line in enumerate(stream, start=1):
        if (number - 1) % every == 0 and line.strip():
            yield number, _parsed(line, Place(source, number))
    if number and (number - 1) % every and line.strip():
        yield number, _parsed(line, Place(source, number))


def _parsed(line: str, place: Place) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{place}: not JSON: {error.msg.removesuffix(' at')}, column {error.colno}") from None
    except RecursionError:
        raise UserError(f"{place}: {NESTED}") from None


def _array(stream: TextIOWrapper, source: str) -> Iterator[tuple[int, Any]]:
    """A JSON array, element by element; a file of JSON lines under this name is read as such."""
    text = ""
    while not text and (more := stream.read(CHUNK)):
        text = more.lstrip()
    if text.startswith("{"):
        stream.seek(0)
        yield from _lines(stream, source)
        return
    if not text:
        return
    if not text.startswith("["):
        raise UserError(f"{source}: neither a JSON array nor JSON lines: starts with {text[:20]!r}")
    text, number, decoder = text[1:].lstrip(), 0, json.JSONDecoder()
    position = 0
    while True:
        position = _skip(text, position, number > 0)
        if text[position : position + 1] == "]":
            return
        try:
            element, after = decoder.raw_decode(text, position)
            finished = after < len(text)
        except json.JSONDecodeError as error:
            element, after, finished = error, position, False
        except RecursionError:
            raise UserError(f"{Place(source, number + 1)}: {NESTED}") from None
        if finished:
            number, position = number + 1, after
            yield number, element
            continue
        more = stream.read(max(CHUNK, len(text) - position))  # doubles, so that a huge element stays linear
        if not more:
            fault = element.msg if isinstance(element, json.JSONDecodeError) else "the array is not closed"
            raise UserError(f"{Place(source, number + 1)}: not JSON: {fault}; is the file cut short?")
        text, position = text[position:] + more, 0


def _skip(text: str, position: int, comma: bool) -> int:
    """Past white space and, between elements, one comma."""
    while position < len(text) and (text[position].isspace() or (comma and text[position] == ",")):
        comma = comma and text[position] != ","
        position += 1
    return position


def _table(stream: TextIOWrapper, source: str) -> Iterator[tuple[int, Any]]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    reader = csv.DictReader(stream, strict=True)
    number = 0
    try:
        for number, row in enumerate(reader, start=1):
            if None in row or None in row.values():
                fields = len(reader.fieldnames or ())
                raise UserError(f"{Place(source, number)}: has not {fields} fields, as the header; quote commas")
            yield number, row
    except csv.Error as error:
        raise UserError(f"{Place(source, number + 1)}: not CSV: {error}") from None


def _parquet(path: Path, source: str) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=ROWS_AT_ONCE):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{source}: not a readable Parquet file: {error}") from None


def _from_disk(path: Path, source: str, split: str) -> Any:
    import datasets

    folder = saved_split(path, source, split)
    try:
        return datasets.load_from_disk(str(folder))
    except Exception as error:  # the library raises whatever its readers raise
        raise UserError(f"{source}: cannot be loaded: {error}") from None


def _from_hub(source: str, split: str) -> Any:
    import datasets

    name, revision, config, own = re.fullmatch(HUB_NAME, source).groups()  # type: ignore[union-attr]  # as in `resolve`
    try:
        return datasets.load_dataset(name, config, split=own or split, revision=revision)
    except Exception as error:  # the library raises whatever its readers and the network raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{source}: no such file, and as a hub name: {reason}. Accepted: {ACCEPTED}") from None
