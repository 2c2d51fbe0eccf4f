"""All processes of a run killed, or asked to stop: what goes on afterwards is bitwise the run that was left alone."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from forked import Child, alone, command, launched
from launches import LONG, STEPS, TIMEOUT, Launch, launcher, rows
from safetensors.torch import load_file

pytestmark = pytest.mark.processes
RUN = ["dpo", *LONG]
OF_TIME = ("tokens_per_second", "memory_mb")


def start(mode: str, folder: Path, *words: str) -> Child:
    act = command(["train", *RUN, f"training.output_dir={folder}", *words])
    return launched(mode, folder.parent, folder.with_suffix(".txt"), act)


def run(mode: str, folder: Path, *words: str) -> None:
    code = start(mode, folder, *words).wait(TIMEOUT)
    assert code == 0, told(folder)


def told(folder: Path) -> str:
    return folder.with_suffix(".txt").read_text()


def await_step(process: Child, folder: Path, step: int) -> None:
    await_that(process, folder, lambda: len(rows(folder)) >= step)


def await_that(process: Child, folder: Path, true: Callable[[], bool]) -> None:
    end = time.monotonic() + TIMEOUT
    while not true():
        assert process.poll() is None, told(folder)
        assert time.monotonic() < end, told(folder)
        time.sleep(0.02)


def assert_same_run(one: Path, other: Path) -> None:
    weights, theirs = (load_file(f / "final" / "adapter_model.safetensors") for f in (one, other))
    assert weights.keys() == theirs.keys()
    assert all(torch.equal(weights[k], theirs[k]) for k in weights)
    kept = [[{k: v for k, v in row.items() if k not in OF_TIME} for row in rows(f)] for f in (one, other)]
    assert [row["step"] for row in kept[0]] == list(range(1, STEPS + 1))
    assert kept[0] == kept[1]


@pytest.mark.parametrize("launch", ["ddp", "zero2"], indirect=True)
def test_killed_and_resumed_and_stopped_and_resumed_is_the_same_run(launch: Launch, mode: str, tmp_path: Path):
    folder, draw = tmp_path / "run", random.Random(f"kill {mode}")
    process = start(mode, folder)
    await_step(process, folder, draw.randrange(4, 7))
    time.sleep(draw.random() * 0.5)  # anywhere within a step, an evaluation or a save
    for victim in (process.pid, *process.ranks()):  # ranks outlive their launcher: each leads a session of its own
        os.kill(victim, signal.SIGKILL)
    process.wait(TIMEOUT)
    assert len(rows(folder)) < STEPS

    again = start(mode, folder, "--resume")
    await_that(again, folder, lambda: told(folder).count("dpo on cpu") == 2)  # those killed may have come far
    await_step(again, folder, draw.randrange(8, 11))
    for asked in again.ranks()[1:] if mode == "ddp" else [again.pid]:  # one rank, or the launcher, as a scheduler would
        os.kill(asked, signal.SIGTERM)
    assert again.wait(TIMEOUT) != 0
    if mode == "ddp":  # the launcher's own code is 1 whatever its ranks say; it tells theirs
        assert "exitcode  : 75" in told(folder)
    assert told(folder).count("go on with --resume") == 1
    stopped = len(rows(folder))
    assert (folder / "checkpoints" / f"step-{stopped:06d}").exists()

    run(mode, folder, "--resume")
    assert f"going on from step-{stopped:06d}" in told(folder)
    assert_same_run(launch.folder / "long", folder)


@pytest.mark.parametrize("launch", ["ddp"], indirect=True)
def test_a_world_of_another_size_is_refused(launch: Launch, mode: str):
    folder, log = launch.folder / "long", launch.folder / "refused.txt"
    words = ["train", *RUN, f"training.output_dir={folder}", "--resume"]
    assert alone(folder.parent, log, words, launcher(mode)[1]).wait(TIMEOUT) == 2
    assert "world_size" in log.read_text()
    assert log.read_text().count("align:") == 1
