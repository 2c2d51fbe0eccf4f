"""`metrics.jsonl` and `completions.jsonl`: a line is whole or is not there, and a step is there once.

A step's line is written after its evaluation, whose values stand on it under `eval/...`. Before a checkpoint of step S
is committed, the lines up to S are written and `sync`ed; on resume from S, `truncate_after(S)` drops what came later.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from align.errors import RunError, UserError
from align.methods.metrics import About, as_text
from align.system.files import open_end, replace_file, write_json
from align.system.lines import drop_torn_end, read_lines

ABOUT = "about_metrics.json"  # what metrics are that a method has declared itself
Mark = dict[str, int | str]  # how long a log was, and the sum of it
Number = float | int | np.integer | np.floating


class JsonLines:
    """A file of one JSON object a line, each with its `step`; appended to, flushed line by line."""

    def __init__(self, path: Path):
        self.path = path
        drop_torn_end(path)
        self.last_step = max((r["step"] for r in read_log(path)), default=-1)
        self._file = self._open()

    def _open(self) -> TextIO:
        return open_end(self.path)

    def _write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        try:
            self._file.write("".join(json.dumps(r, ensure_ascii=False, allow_nan=False) + "\n" for r in rows))
            self._file.flush()
        except OSError as error:
            raise RunError(f"{self.path}: cannot be written: {error}; make room, then go on with --resume") from error
        self.last_step = max([self.last_step, *(int(r["step"]) for r in rows)])

    def truncate_after(self, step: int) -> list[int]:
        """Drops lines of later steps, repeats and torn lines; returns the steps up to `step` that are missing."""
        kept = self._kept([r for r in read_log(self.path) if r["step"] <= step])
        self.close()
        replace_file(self.path, "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in kept))
        self._file = self._open()
        self.last_step = max((int(r["step"]) for r in kept), default=-1)
        return sorted(set(range(1, step + 1)) - {int(r["step"]) for r in kept})

    def _kept(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return rows

    def mark(self) -> Mark:
        """What the file is now, of which later lines are appended."""
        with self.path.open("rb") as file:
            return {"size": self.path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}

    def begins_with(self, mark: Mark) -> bool:
        """Whether the lines up to a mark are still those that were written."""
        found = self.path.read_bytes()[: int(mark["size"])]
        return len(found) == mark["size"] and hashlib.sha256(found).hexdigest() == mark["sha256"]

    def sync(self) -> None:
        """To the disk itself, so that a power cut cannot keep a checkpoint and lose its lines."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        with contextlib.suppress(OSError):  # every line was flushed; what is left has been refused before
            self._file.close()


class MetricsLog(JsonLines):
    """One line per step; finite numbers only."""

    def __init__(self, path: Path):
        super().__init__(path)
        self._about: dict[str, Any] = {}

    def append(self, step: int, row: Mapping[str, Number]) -> None:
        """Raises RunError naming the key whose value is not finite, once the others stand there: a step has its line.

        Keys of an evaluation begin with `eval/`.
        """
        assert step > self.last_step, f"{self.path}: step {step} after step {self.last_step}"
        finite = {key: value for key, value in row.items() if math.isfinite(value)}
        self._write([{"step": step, **{k: _finite(self.path, step, k, v) for k, v in finite.items()}}])
        for key in row.keys() - finite.keys():
            _finite(self.path, step, key, row[key])

    def about(self, found: Mapping[str, About]) -> None:
        """What a method says of metrics of its own, in a file beside this one; once, and again where it changes."""
        told = {name: as_text(what) for name, what in found.items()}
        if told != self._about:
            write_json(self.path.with_name(ABOUT), told)
            self._about = told

    def _kept(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [r for _, r in sorted({int(r["step"]): r for r in rows}.items())]


@dataclass(frozen=True, kw_only=True)
class Completion:
    """One sample of the policy."""

    step: int  # optimiser steps done when it was generated; 0 is the model before training
    policy_version: int  # of the weights that wrote it
    prompt: str
    text: str
    prompt_length: int  # tokens
    completion_length: int  # tokens
    stop_reason: str
    rewards: dict[str, float | None] = field(default_factory=dict)  # None: could not be judged


class CompletionsLog(JsonLines):
    """Samples, several a step."""

    def append(self, samples: Sequence[Completion]) -> None:
        for sample in samples:
            for name, reward in sample.rewards.items():
                if reward is not None:
                    _finite(self.path, sample.step, f"rewards.{name}", reward)
        self._write([asdict(s) for s in samples])


def read_log(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a log; a torn last one is left out, any other damage is a UserError with its line number."""
    for place, row in read_lines(path, lambda torn: None) if path.exists() else ():
        try:
            row["step"] = int(row["step"])
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{place}: not a line of this log ({error}); remove the line to go on") from None
        yield row


def _finite(path: Path, step: int, key: str, value: Number) -> Number:
    assert isinstance(value, Real), f"{key}: {value!r} is not a number"
    assert not isinstance(value, bool), f"{key}: {value!r} is not a number"
    number = int(value) if isinstance(value, Integral) else float(value)
    if not math.isfinite(number):
        raise RunError(f"{path}: step {step}: {key} is {number}; only finite numbers are logged")
    return number


def peak_memory_mb() -> float:
    """The most memory this process has held so far, in MiB: of its GPU where it uses one, else resident."""
    torch = sys.modules.get("torch")  # who has not imported it uses no GPU, and need not wait for it
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 2**20
    status = Path("/proc/self/status")
    if status.exists():  # not getrusage: that also counts the process which started this one
        line = next((x for x in status.read_text().splitlines() if x.startswith("VmHWM")), None)
        if line:
            return int(line.split()[1]) / 2**10  # kB
    try:
        import resource
    except ImportError:
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
