"""Prepared rows on disk: flat memory-mapped files, written once, aside, and renamed.

    index.bin    one record per row: where its tokens start, the lengths, the row's numbers, where it came from
    tokens.bin   int32: per row the prompt once, then the completion of each member
    masks.bin    one byte per completion token
    extras.bin   JSON: what the rewards of a prompt are told (nothing for other kinds)
    store.json   kind, counts, sizes and sums of the files

A store in memory is three maps; a row is read when it is asked for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from align.batches import Group, RowKind, Tokens
from align.data.reading.rows import MEMBERS
from align.data.text.special import APART, plain
from align.system.files import create, write_json
from align.system.sums import sums_of

ABOUT = "store.json"
APART_IN_JSON = json.dumps(APART)[1:-1].encode()
FILES = ("index.bin", "tokens.bin", "masks.bin", "extras.bin")


@dataclass(kw_only=True)
class Counts:
    """What became of the rows of one split. `rows` counts groups: a pair taken apart makes two."""

    read: int = 0  # rows of the file that belong to this split, unusable ones among them
    bad: int = 0  # dropped: cannot be used
    overlong: int = 0  # dropped: more than max_length tokens
    shortened: int = 0  # cut to max_length
    templated: int = 0  # rendered by the chat template
    apart: int = 0  # prompt and completion tokenized apart, because the tokenizer merges across the boundary
    shared_prompts: int = 0  # rows whose prompt is in `train` too (0 for a split by hash)
    rows: int = 0  # groups that are kept
    sources: dict[str, int] = field(default_factory=dict)  # kept groups of each source, in order


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A row ready to be written."""

    members: tuple[Tokens, ...]  # all with the same prompt
    numbers: dict[str, float]
    key: int  # 64 bits of the hash of the prompt's text
    source: int  # which source of the mixture
    row: int  # its number there, from 1
    extras: bytes = b""


def record(members: int, numbers: int) -> np.dtype:
    return np.dtype([
        ("token", "<i8"), ("mask", "<i8"), ("prompt", "<i4"), ("completion", "<i4", (members,)),
        ("numbers", "<f8", (numbers,)), ("key", "<u8"), ("source", "<i4"), ("row", "<i8"), ("extras", "<i8"),
    ])  # fmt: skip


class StoreWriter:
    """Appends rows to a new folder; `close` makes it a store. Holds nothing but the place where it writes."""

    def __init__(self, folder: Path, kind: RowKind, numbers: tuple[str, ...]):
        folder.mkdir(parents=True)
        self.folder, self.kind, self.numbers = folder, kind, numbers
        self.counts = Counts()
        self.files: dict[str, IO[bytes]] = {name: create(folder / name) for name in FILES}
        self.sums = {name: hashlib.sha256() for name in FILES}
        self.dtype = record(MEMBERS[kind], len(numbers))
        self.token = self.mask = self.extras = 0

    def append(self, entries: Sequence[Entry]) -> None:
        index = np.zeros(len(entries), dtype=self.dtype)
        tokens: list[np.ndarray] = []
        masks: list[np.ndarray] = []
        for record, entry in zip(index, entries, strict=True):
            prompt = entry.members[0].prompt
            record["token"], record["mask"], record["prompt"] = self.token, self.mask, len(prompt)
            record["completion"] = [len(m.completion) for m in entry.members]
            record["numbers"] = [entry.numbers.get(n, np.nan) for n in self.numbers]
            record["key"], record["source"], record["row"] = entry.key, entry.source, entry.row
            record["extras"] = self.extras
            self.extras += len(entry.extras)
            tokens += [prompt, *(m.completion for m in entry.members)]
            masks += [m.mask for m in entry.members]
            learned = sum(len(m.completion) for m in entry.members)
            self.token += len(prompt) + learned
            self.mask += learned
        extras = [np.frombuffer(entry.extras, dtype=np.uint8) for entry in entries]
        for name, arrays in zip(FILES, ([index], tokens, masks, extras), strict=True):
            for array in arrays:
                self.files[name].write(written := array.tobytes())
                self.sums[name].update(written)
        self.counts.rows += len(entries)

    def close(self) -> None:
        for file in self.files.values():
            file.close()
        sizes = {name: (self.folder / name).stat().st_size for name in FILES}
        sums = {name: of_file.hexdigest() for name, of_file in self.sums.items()}
        counts = asdict(self.counts)
        about = {"kind": self.kind, "numbers": self.numbers, "counts": counts, "sizes": sizes, "sums": sums}
        write_json(self.folder / ABOUT, about)


class Store:
    """The rows of one split, by number. Opening reads no rows: sizes are compared then, contents by `damage`.

    OSError, ValueError or KeyError for a damaged folder.
    """

    def __init__(self, folder: Path, fingerprint: str):
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        for name, size in about["sizes"].items():
            if (folder / name).stat().st_size != size:
                raise ValueError(f"{folder / name}: should be {size} bytes")
        self.folder, self.fingerprint = folder, fingerprint
        self.sums: dict[str, str] = dict(about["sums"])
        self.kind: RowKind = about["kind"]
        self.numbers: tuple[str, ...] = tuple(about["numbers"])
        self.counts = Counts(**about["counts"])
        self.index = _map(folder / "index.bin", record(MEMBERS[self.kind], len(self.numbers)))
        self.tokens = _map(folder / "tokens.bin", np.dtype("<i4"))
        self.masks = _map(folder / "masks.bin", np.dtype(np.bool_))
        self.told = _map(folder / "extras.bin", np.dtype(np.uint8))

    def damage(self) -> list[str]:
        """Files whose content is not what was written; all of them are read."""
        found = sums_of([self.folder / name for name in self.sums])
        return [str(self.folder / n) for n, s in zip(self.sums, found, strict=True) if self.sums[n] != s]

    def __len__(self) -> int:
        return len(self.index)

    def __iter__(self) -> Iterator[Group]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, i: int) -> Group:
        if not 0 <= i < len(self):
            raise IndexError(f"row {i} of {len(self)}")
        found = self.index[i]
        token, mask = int(found["token"]), int(found["mask"])
        prompt = np.array(self.tokens[token : token + found["prompt"]], dtype=np.int32)
        token += int(found["prompt"])
        members = []
        for length in found["completion"].tolist():
            completion = np.array(self.tokens[token : token + length], dtype=np.int32)
            members.append(Tokens(prompt, completion, np.array(self.masks[mask : mask + length])))
            token, mask = token + length, mask + length
        values = zip(self.numbers, found["numbers"].tolist(), strict=True)
        return Group(tuple(members), {n: v for n, v in values if v == v}, int(i))  # absent numbers are NaN

    def rows(self, numbers: Iterable[int]) -> list[Group]:
        return [self[i] for i in numbers]

    def extras(self, i: int) -> dict[str, Any]:
        """The columns of prompt `i`, and `prompt` itself as text or messages."""
        return plain(self.marked(i)) if APART_IN_JSON in self._told(i) else self.marked(i)

    def marked(self, i: int) -> dict[str, Any]:
        """Likewise, with the names of special tokens set apart where they are text of the prompt."""
        return json.loads(self._told(i) or b"{}")

    def _told(self, i: int) -> bytes:
        start = int(self.index[i]["extras"])
        end = int(self.index[i + 1]["extras"]) if i + 1 < len(self) else len(self.told)
        return self.told[start:end].tobytes()

    def lengths(self, i: int) -> tuple[tuple[int, int], ...]:
        """(prompt, completion) length of each member, from the index alone."""
        found = self.index[i]
        return tuple((int(found["prompt"]), length) for length in found["completion"].tolist())

    @property
    def prompt_lengths(self) -> np.ndarray:
        """(rows,) int32."""
        return self.index["prompt"]

    @property
    def completion_lengths(self) -> np.ndarray:
        """(rows, members) int32."""
        return self.index["completion"]

    @property
    def shortened(self) -> int:
        """Rows that were cut to max_length."""
        return self.counts.shortened

    def place(self, i: int) -> str:
        """The file and row that row `i` was made from, for messages."""
        found = self.index[i]
        return f"{list(self.counts.sources)[int(found['source'])]}: row {int(found['row'])}"


def _map(path: Path, dtype: np.dtype) -> Any:
    return np.memmap(path, dtype=dtype, mode="r") if path.stat().st_size else np.zeros(0, dtype=dtype)
