"""Which process this is, as a launcher or Slurm says. Imports nothing heavy: messages of a start that fails name it."""

from __future__ import annotations

import os
import socket

ATTEMPT = "ALIGN_ATTEMPT"  # job.sh: the job's number and how often it was put back, such as 17.1; unset: no job


def rank() -> int:
    return int(os.environ.get("RANK", "0"))


def node() -> str:
    """Slurm's name of this machine, or its own."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


def attempt() -> str:
    """The attempt of a job that this process belongs to; empty of one that no job has started."""
    return os.environ.get(ATTEMPT, "")


def speaker() -> str:
    """Who speaks in a log: `align (rank 3 on n2)`."""
    if attempt():
        return f"align (rank {rank()} on {node()})"
    return f"align (rank {rank()})" if rank() else "align"
