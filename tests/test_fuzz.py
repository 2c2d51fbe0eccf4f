"""A few of the fuzzer's cases, and that the fuzzer sees what it is there to see."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz.harm import Harm
from fuzz.lives import Life, Place, judge, live
from fuzz.sameness import differences

SEED = 1
CASES = ("kills:3", "flips:1", "full_disks:0", "recipes:0", "rows:2")
RUN = [
    "train", "sft", "training.num_train_epochs=null", "training.max_steps=2", "training.eval_steps=0", "data.test=0",
    "data.validation=0", "data.num_rows=8", "training.batch_size=2", "logging.num_completions=0",
    "training.output_dir=run", "training.save_steps=1",
]  # fmt: skip


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path, tmp_path / "cache")


@pytest.mark.processes
def test_harm_leaves_no_trace(repository: Path):
    """In a process without shape checks, which would cost as much as the rest."""
    command = [sys.executable, "-m", "fuzz", "--seed", str(SEED), "--case", ",".join(CASES)]
    places = (str(repository / "tests"), str(repository / "tests" / "helpers"))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
    done = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(CASES)} cases" in done.stdout


def test_a_life_is_killed_at_its_instant_or_within_a_write(place: Place):
    whole = live(RUN, place)
    assert (whole.code, whole.problems) == (0, [])
    assert differences(place.folder / "run", place.folder / "run") == []
    shutil.rmtree(place.folder / "run")
    cut = live(RUN, place, Harm("kill", whole.instants // 3))
    assert (cut.code, cut.instants) == (-signal.SIGKILL, 0)
    assert not (place.folder / "run/final").exists()
    (folder := place.folder / "torn").mkdir()
    assert live(RUN, Place(folder, folder / "cache"), Harm("tear", 1, size=5000)).code == -signal.SIGXFSZ
    assert max(p.stat().st_size for p in folder.rglob("*")) == 5000


def test_what_a_command_may_not_do_is_seen():
    quiet = Life("align train", code=1)
    loud = Life("align train", code=3, text="Traceback (most recent call last):\n  ...\nKeyError: 'x'\n")
    assert judge(quiet) == ["ended with 1 and without a word"]
    assert judge(loud) == ["ended with a traceback: KeyError: 'x'", "ended with code 3"]
    assert judge(Life("align train", code=-signal.SIGTERM)) == ["ended with code -15"]
    assert judge(Life("align train", code=75, text="stopped")) == []
