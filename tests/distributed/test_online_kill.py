"""Two processes killed while they write, are judged or learn: what goes on is bitwise the run that was left alone."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch
from forked import Child, command, launched
from launches import JOBS, TIMEOUT, Launch, rows
from safetensors.torch import load_file

pytestmark = pytest.mark.processes

RUN = next(job for job in JOBS if job["name"] == "critic")
OF_TIME = ("tokens_per_second", "memory_mb", "seconds_generate", "seconds_reward", "seconds_score")
STEPS = 8


def start(mode: str, folder: Path, *words: str) -> Child:
    act = command(["train", RUN["recipe"], *RUN["overrides"], f"training.output_dir={folder}", *words])
    return launched(mode, folder.parent, folder.with_suffix(".txt"), act)


def kept(folder: Path) -> list[dict[str, float]]:
    return [{k: v for k, v in row.items() if k not in OF_TIME} for row in rows(folder)]


@pytest.mark.parametrize("launch", ["ddp", "zero2"], indirect=True)
def test_killed_and_resumed_is_the_same_run(launch: Launch, mode: str, tmp_path: Path):
    folder, draw = tmp_path / "run", random.Random(f"kill online {mode}")
    process, end = start(mode, folder), time.monotonic() + TIMEOUT
    while len(rows(folder)) < 3:  # the rest of the first experience, or the second while it is written
        assert process.poll() is None, folder.with_suffix(".txt").read_text()
        assert time.monotonic() < end
        time.sleep(0.01)
    time.sleep(draw.random() * 0.5)
    for victim in (process.pid, *process.ranks()):
        os.kill(victim, signal.SIGKILL)
    process.wait(TIMEOUT)
    assert len(rows(folder)) < STEPS

    assert start(mode, folder, "--resume").wait(TIMEOUT) == 0, folder.with_suffix(".txt").read_text()
    ours, theirs = (load_file(f / "final" / "model.safetensors") for f in (folder, launch.folder / "critic"))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert kept(folder) == kept(launch.folder / "critic")
