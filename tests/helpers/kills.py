"""Runs as children that can be killed, and what two runs of the same recipe must have in common.

Children are forked from this process, which has everything imported, so that a life costs its training alone.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from children import end_with
from small_runs import TIMES

import align.run.train  # noqa: F401  once, here, instead of in every child
from align.cli.main import main

Sign = Callable[[Path], bool]
PATIENCE = 120.0  # seconds for anything to happen


def begin(recipe: Path, out: Path, *words: str) -> int:
    """A child that trains; returns its process id."""
    child = os.fork()
    if child:
        return child
    log = os.open(out.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    end_with(lambda: main(["train", str(recipe), f"training.output_dir={out}", *words]))


def ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def wait_for(child: int, sign: Callable[[], bool]) -> bool:
    """Until `sign()`; False when the child ended before."""
    limit = time.monotonic() + PATIENCE
    while not sign():
        if os.waitpid(child, os.WNOHANG)[0]:
            return False
        assert time.monotonic() < limit, "nothing happened"
        time.sleep(0.0005)
    return True


def lines(path: Path) -> list[dict[str, float]]:
    """The whole lines; a torn last one is not there."""
    found = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in found if line.endswith("\n")]


def lasting(path: Path) -> list[dict[str, float]]:
    return [{k: v for k, v in line.items() if k not in TIMES} for line in lines(path)]


def kill(child: int) -> None:
    os.kill(child, signal.SIGKILL)
    assert ended(child) == -signal.SIGKILL


def assert_no_trace(recipe: Path, folder: Path, signs: Sequence[Sign], *words: str) -> None:
    """Killed at each sign, given the run's folder, and gone on with, it ends as the run that nobody disturbed."""
    whole, out = folder / "whole", folder / "cut"
    assert ended(begin(recipe, whole, *words)) == 0
    child = begin(recipe, out, *words)
    for sign in signs:
        assert wait_for(child, lambda sign=sign: sign(out)), out.with_suffix(".log").read_text()
        kill(child)
        child = begin(recipe, out, *words, "--resume")
    assert ended(child) == 0
    assert_same_run(out, whole, len(lines(whole / "metrics.jsonl")))


def assert_same_run(one: Path, other: Path, num_steps: int) -> None:
    (mine,), (theirs,) = ((run / "final").glob("*model.safetensors") for run in (one, other))
    assert mine.read_bytes() == theirs.read_bytes()
    assert lasting(one / "metrics.jsonl") == lasting(other / "metrics.jsonl")
    assert [line["step"] for line in lines(one / "metrics.jsonl")] == list(range(1, num_steps + 1))
    assert (one / "completions.jsonl").read_text() == (other / "completions.jsonl").read_text()
