"""Slurm's own commands. All that they are told and say is text."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from align.errors import RunError, UserError

PATIENCE = 60  # seconds for an answer of the controller


@dataclass(frozen=True)
class JobState:
    """As Slurm tells it, while it remembers the job (MinJobAge, five minutes by default, after its end)."""

    number: str
    state: str  # PENDING, RUNNING, COMPLETED, ...
    reason: str = ""
    restarts: int = 0

    @property
    def text(self) -> str:
        again = f", attempt {self.restarts + 1}" if self.restarts else ""
        reason = f" ({self.reason})" if self.reason not in ("", "None") else ""
        return f"job {self.number}: {self.state}{reason}{again}"


def submit(script: Path, *options: str) -> str:
    """The number of the job. UserError where Slurm refuses the script."""
    said = _ask("sbatch", "--parsable", *options, str(script))
    return said.strip().split(";")[0]


def states(number: str) -> list[JobState]:
    """Of a job, or of each task of an array; empty where Slurm no longer knows it."""
    try:
        said = _ask("scontrol", "--oneliner", "show", "job", number)
    except UserError as error:
        if "Invalid job id" in str(error):
            return []
        raise
    return [_state(line) for line in said.splitlines() if line.startswith("JobId=")]


def cancel(number: str) -> None:
    _ask("scancel", number)


def _state(line: str) -> JobState:
    words: dict[str, str] = {}
    for word in line.split():
        name, _, value = word.partition("=")
        words.setdefault(name, value)
    number = words["JobId"]
    if words.get("ArrayTaskId", "").isdecimal():
        number = f"{words['ArrayJobId']}_{words['ArrayTaskId']}"
    return JobState(number, words["JobState"], words.get("Reason", ""), int(words.get("Restarts", "0")))


def _ask(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except FileNotFoundError:
        raise UserError(
            f"{command[0]}: no such command here; submit from a login node of the cluster, or look at the script with "
            "--dry-run"
        ) from None
    except subprocess.TimeoutExpired:
        raise RunError(f"{command[0]}: no answer of Slurm's controller within {PATIENCE} seconds") from None
    if done.returncode:
        raise UserError(_first(command, done.stderr or done.stdout))
    return done.stdout


def _first(command: Sequence[str], said: str) -> str:
    lines = [line.removeprefix(f"{command[0]}: error: ") for line in said.splitlines() if line.strip()]
    return f"{command[0]}: {'; '.join(lines) or 'failed without a word'}"
