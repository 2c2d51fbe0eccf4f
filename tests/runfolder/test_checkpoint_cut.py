"""A writer of checkpoints that is killed, or finds no room: a whole checkpoint is always there."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from three_checkpoints import content, read, save, silent, three

from align.runfolder import checkpoint

PLACE = Path(checkpoint.__file__).parents[2]
WITH_HELPERS = {**os.environ, "PYTHONPATH": str(PLACE / "tests" / "helpers")}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return three(tmp_path / "checkpoints")


# ---- killed ---------------------------------------------------------------------------------------------------------

WRITER = """
import os, signal, sys
from pathlib import Path
from align.runfolder import checkpoint
from three_checkpoints import writing
import numpy as np

root, stop = Path(sys.argv[1]), int(sys.argv[2])
seen = 0

def die_at(event, arguments):
    # Each system call that changes the disk is an instant to be killed before.
    global seen
    if event == "open" and str(root) in str(arguments[0]) and arguments[1] in ("w", "wb", "rb+"):
        seen += 1
    elif event in ("os.rename", "os.mkdir", "os.rmdir", "os.remove", "shutil.rmtree", "instant"):
        seen += 1
    else:
        return
    if seen == stop:
        os.kill(os.getpid(), signal.SIGKILL)

draw = np.random.default_rng(0)
sys.addaudithook(die_at)
with writing(root, int(sys.argv[3])) as tmp:
    for name, data in {"model.safetensors": draw.bytes(4000), "rank-0.pt": draw.bytes(900)}.items():
        with open(tmp / name, "wb") as out:
            for start in range(0, len(data), 500):
                out.write(data[start : start + 500])
                out.flush()
                sys.audit("instant")
checkpoint.prune(root, 2)
sys.audit("instant")
print(seen)
"""


def write_until(root: Path, stop: int, step: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WRITER, str(root), str(stop), str(step)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=PLACE, env=WITH_HELPERS)


@pytest.mark.parametrize("step", [30, 40], ids=["over an existing step", "a new step"])
def test_killed_at_any_instant_a_whole_checkpoint_is_found(root: Path, tmp_path: Path, step: int):
    whole = write_until(shutil.copytree(root, tmp_path / "whole"), 0, step)
    assert whole.returncode == 0, whole.stderr
    instants, finished = int(whole.stdout), read(checkpoint.folder(tmp_path / "whole", step))
    assert instants > 15
    results = set()
    chosen = {1, 2, instants, *random.Random(0).sample(range(3, instants), 8)}
    for stop in sorted(chosen | set(range(instants - 12, instants))):
        place = shutil.copytree(root, tmp_path / f"killed-{stop}")
        assert write_until(place, stop, step).returncode == -signal.SIGKILL
        good = checkpoint.latest_good(place, silent)
        assert good is not None
        assert not [p for p in place.iterdir() if p.name.startswith(".")], "leftovers are gone"
        old = content(checkpoint.step_of(good))
        assert read(good) in (old, finished)
        results.add((good.name, read(good) == finished))
        save(place, 50)  # and the run can go on
        assert checkpoint.latest_good(place, silent) == place / "step-000050"
    assert results == {("step-000030", False), (checkpoint.folder(root, step).name, True)}


# ---- disk full ------------------------------------------------------------------------------------------------------

FILLER = """
import resource, sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from align.errors import RunError
from align.runfolder import checkpoint
from align.runfolder.state_files import save_state
from three_checkpoints import writing

root = Path(sys.argv[1])
weights = {"w": torch.ones(100_000)}
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
kinds = {
    "safetensors": lambda tmp: save_file(weights, tmp / "model.safetensors"),
    "state": lambda tmp: save_state(weights, tmp / "optimiser.pt"),
    "torch": lambda tmp: torch.save(weights, tmp / "optimiser.pt"),
    "bytes": lambda tmp: (tmp / "bytes").write_bytes(bytes(400_000)),
    "manifest": lambda tmp: [(tmp / f"{i:0200}").write_bytes(b"") for i in range(500)],
}
for kind, write in kinds.items():
    try:
        with writing(root, 40) as tmp:
            write(tmp)
    except RunError as error:
        print(error)
    else:
        print(kind, "was written")
"""


def test_full_disk_names_the_folder_and_loses_nothing(root: Path):
    """A limit on the size of files stands for the disk: the same errors by the same ways."""
    command = [sys.executable, "-c", FILLER, str(root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=PLACE, env=WITH_HELPERS)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 5
    for line in lines:
        assert f"{root}: no room to save step-000040" in line
        needed = re.search(r"it needs more than ([\d,]+) bytes, ([\d,]+) are free", line)
        assert needed is not None
        assert int(needed[1].replace(",", "")) > 5801, "at least as much as the one before it"
        assert "the previous checkpoint step-000030 is intact" in line
    assert sorted(p.name for p in root.iterdir()) == ["step-000010", "step-000020", "step-000030"]
    assert read(root / "step-000030") == content(30)
