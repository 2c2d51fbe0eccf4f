"""Jobs on the two nodes of a test's Slurm: how far they are, what they said, and which processes they are."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

Submit = Callable[..., str]  # run folder, recipe, words of the command line -> the job's number


def log_of(out: Path, job: str) -> str:
    path = out / f"launch/slurm-{job}.log"
    return path.read_text() if path.exists() else "no log"


def reached(out: Path, step: int, limit: float = 120.0) -> None:
    """Until the checkpoint of this step is there."""
    end = time.monotonic() + limit
    while not (out / f"checkpoints/step-{step:06d}").exists():
        assert time.monotonic() < end, "\n".join(p.read_text() for p in (out / "launch").glob("*.log"))
        time.sleep(0.01)


def rank_of(out: Path, rank: str) -> int:
    """The process of this rank of a run."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                known = (folder / "environ").read_bytes().split(b"\0")
                command = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if f"RANK={rank}".encode() in known and str(out / "launch/recipe.yaml").encode() in command:
                return int(folder.name)
    raise AssertionError(f"no rank {rank} of {out}")


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
