"""Programs of unknown intent, each in a process of its own: limits on time, memory and files, no network where the
system can take it away, and an end of all that they started.

It is a fence and no prison: where the system gives no name spaces (`Ran.apart` says what it gave), a hostile program
may still read this user's files and reach the network. Run tasks of code on a machine that can be lost.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHILD = Path(__file__).with_name("sandbox_child.py")
GRACE = 10.0  # seconds for the start and the end of the process that watches
OUTPUT = 4096  # bytes of what it tells that are read
SURROUNDINGS = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONHASHSEED": "0"}


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What came of a program."""

    passed: bool  # it ran to its end
    why: str = ""  # why not
    apart: tuple[str, ...] = ()  # of network, processes, files, user: what it had of its own


def run(program: str, timeout: float = 10.0, memory: int = 1024) -> Ran:
    """Runs Python until it ends or fails. `timeout` in seconds, `memory` in MiB."""
    word = secrets.token_hex(16)
    read, write = os.pipe()
    with tempfile.TemporaryDirectory(prefix="align-eval-", ignore_cleanup_errors=True) as folder:
        asked = {"program": program, "timeout": timeout, "memory": memory, "folder": folder, "word": word,
                 "tell": write}  # fmt: skip
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", str(CHILD)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, pass_fds=(write,), env={**SURROUNDINGS, "HOME": folder}, cwd=folder,
            start_new_session=True,
        )  # fmt: skip
        os.close(write)
        try:
            with contextlib.suppress(BrokenPipeError, subprocess.TimeoutExpired):
                child.communicate(json.dumps(asked).encode() + b"\n", timeout=timeout + GRACE)
        finally:
            _end(child)
        told = _read(read, word)
    return told or Ran(passed=False, why="ended without a word, as a program does that leaves before its tests")


def _end(child: subprocess.Popen[bytes]) -> None:
    """Its process group; what left the group was ended by the one that watches, which is in it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _read(read: int, word: str) -> Ran | None:
    """The first line that knows the word."""
    os.set_blocking(read, False)
    with os.fdopen(read, "rb") as file:
        text = (file.read(OUTPUT) or b"").decode(errors="replace")
    for line in text.splitlines():
        with contextlib.suppress(ValueError, TypeError, AttributeError):
            found: dict[str, Any] = json.loads(line)
            if found.get("word") == word:
                apart = tuple(map(str, found.get("apart") or ()))
                return Ran(passed=found["passed"] is True, why=str(found["why"]), apart=apart)
    return None
