"""A command of `align` as a child that can be harmed: forked from a process that has everything imported.

What a life says goes through a pipe, for a file could be as full as the disk that the life is given.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import select
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from children import end_with
from fuzz.harm import Harm, Watch

import align.cli.check
import align.run.train  # noqa: F401  once, here, instead of in every child
from align.cli.main import main

PATIENCE = 180.0  # seconds for a life
LISTEN = 0.05  # seconds between two looks at what it says
REST = 20.0  # seconds for its own children to end after it
TOLD = (0, 1, 2, 75)
DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


@dataclass(frozen=True)
class Alarm:
    """A signal from outside, to the process and all of its children, after some seconds."""

    after: float
    signal: int

    def __str__(self) -> str:
        return f"{signal.Signals(self.signal).name} after {self.after:.2f} s"


@dataclass
class Life:
    """How a command ended. `code` is negative where a signal ended it, as subprocess has it."""

    command: str
    code: int = 0
    text: str = ""
    seconds: float = 0.0
    instants: int = 0  # that it had, if it was not killed
    problems: list[str] = field(default_factory=list)  # of its manners, whatever it did

    @property
    def killed(self) -> bool:
        return self.code in (-signal.SIGKILL, -signal.SIGXFSZ)


@dataclass(frozen=True)
class Place:
    """Where commands run: their working folder, with a cache of their own."""

    folder: Path
    cache: Path


def live(words: list[str], place: Place, harm: Harm | None = None, alarm: Alarm | None = None) -> Life:
    """Runs `align WORDS` to its end, with what happens to it on the way."""
    life = Life(" ".join(["align", *words, *([f"[{harm or alarm}]"] if harm or alarm else [])]))
    told, telling = os.pipe()
    counted, counting = os.pipe()
    began = time.monotonic()
    child = os.fork()
    if not child:
        os.close(told)
        os.close(counted)
        _be_child(words, place, harm, (telling, counting))
    os.close(telling)
    os.close(counting)
    with contextlib.suppress(OSError):  # the child was faster, or is gone
        os.setpgid(child, child)
    life.text = _attend(child, told, alarm, life)
    life.seconds = time.monotonic() - began
    life.instants = int(os.read(counted, 20) or 0)
    for handle in (told, counted):
        os.close(handle)
    life.problems += judge(life)
    return life


def _be_child(words: list[str], place: Place, harm: Harm | None, pipes: tuple[int, int]) -> None:
    def act() -> int:
        ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
        os.setpgid(0, 0)
        for handle in (1, 2):
            os.dup2(pipes[0], handle)
        os.chdir(place.folder)
        sys.path.insert(0, str(place.folder))
        os.environ["ALIGN_CACHE"] = str(place.cache)
        watch = Watch((place.folder, place.cache), harm)
        code = main(words)
        os.write(pipes[1], str(watch.seen).encode())
        return code

    end_with(act)


def _attend(child: int, told: int, alarm: Alarm | None, life: Life) -> str:
    """Listens until the child has ended, and says in `life` how; returns what it said."""
    ended, text, began = os.pidfd_open(child), b"", time.monotonic()
    os.set_blocking(told, False)
    events = [(PATIENCE, int(signal.SIGKILL))]
    if alarm is not None:
        events.insert(0, (alarm.after, alarm.signal))
    while True:
        left = events[0][0] - (time.monotonic() - began) if events else LISTEN
        if left <= 0:
            after, number = events.pop(0)
            life.problems += [f"had not ended after {after:.0f} s"] if after == PATIENCE else []
            os.killpg(child, number)
            continue
        if select.select([ended], [], [], min(left, LISTEN))[0]:
            break
        text += _read(told)  # before the pipe is full
    life.code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.close(ended)
    if not _alone(child):
        life.problems.append(f"left processes behind that live {REST:.0f} s after it")
        os.killpg(child, signal.SIGKILL)
    return (text + _read(told)).decode(errors="replace")


def _read(handle: int) -> bytes:
    found = b""
    with contextlib.suppress(BlockingIOError):
        while piece := os.read(handle, 65536):
            found += piece
    return found


def _alone(group: int) -> bool:
    """Whether the group's last process has ended; those that must still notice get some time."""
    limit = time.monotonic() + REST
    while time.monotonic() < limit:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


def judge(life: Life) -> list[str]:
    """What no command may do, whatever happens to it."""
    found: list[str] = []
    if "Traceback (most recent call last)" in life.text:
        errors = re.findall(r"^[\w.]+(?:Error|Exception|Exit|Interrupt)\b.*", life.text, re.MULTILINE)
        found.append(f"ended with a traceback: {errors[-1] if errors else life.text[-300:]}")
    if life.code not in TOLD and not life.killed:
        found.append(f"ended with code {life.code}")
    if life.code in (1, 2) and not life.text.strip():
        found.append(f"ended with {life.code} and without a word")
    return found
