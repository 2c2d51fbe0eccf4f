"""Writes a page anew while its runs go on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from align.report.folder import GUARD, SWEEP, is_run
from align.report.page import write
from align.runfolder.lock import LOCK, held_by

EVERY = 2.0  # seconds between two looks at the files
SHARE = 5  # of the time, at most one part of so many is spent on writing the page
RELOAD = 5  # seconds after which a browser reads the page anew
NAMES = ("*.json", "*.jsonl", ".lock", "rollouts/*.jsonl", "values/*.jsonl", "evaluations/*.jsonl")
Marks = dict[Path, tuple[int, int]]


def report(
    runs: list[Path], out: Path | None, say: Callable[[str], Any], *,
    watch: bool = False, wait: Callable[[float], Any] = time.sleep,
) -> None:  # fmt: skip
    """Writes the page; with `watch` until all of its runs have ended or were stopped, or for ever where a pipeline may
    begin further ones. `wait` is asked between two looks. UserError as `write` has it.
    """
    if not watch:
        return say(str(write(runs, out)))
    marks, told = _marks(runs), False
    while True:
        going = any(map(_goes_on, runs))
        started = time.perf_counter()
        path = write(runs, out, watched=RELOAD if going else 0)
        took = time.perf_counter() - started
        if not told:
            say(f"{path}: written anew as the runs go on; stop it by Ctrl-C" if going else str(path))
            told = True
        if not going:
            return
        while (now := _marks(runs)) == marks and any(map(_goes_on, runs)):
            wait(max(EVERY, SHARE * took))
        marks = now


def _goes_on(path: Path) -> bool:
    """Whether anything is still to come: of a run that has not ended, of a sweep that somebody runs, or of a pipeline,
    which may have further ones."""
    if path.is_dir() and not is_run(path):
        return not (path / SWEEP).is_file() or bool(held_by(path / GUARD))
    begins = not (path / "metrics.jsonl").exists()
    return not (path / "outcome.json").exists() and (begins or bool(held_by(path / LOCK)))


def _marks(runs: list[Path]) -> Marks:
    """Sizes and times of the files that a page is made of."""
    return {path: mark for run in runs for path in _files(run) if (mark := _mark(path))}


def _files(run: Path) -> Iterator[Path]:
    for name in NAMES:
        yield from run.glob(name)
        yield from run.glob(f"*/{name}")  # of a pipeline's runs


def _mark(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_size, found.st_mtime_ns
