"""A file for each rank that says, every few seconds, what it is doing: `launch/attempt-NAME/rank-00003.json`.

It is written from a thread, over itself, and never to the disk by force: who looks at it wants to know whether it
changes. Beside it stands `stacks-00003.txt`, empty until there is a reason: the stacks of a process that ends because
the others have not got on, and of one in which a call holds Python for so long that the others take it for dead.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import re
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from align.system.files import inner_folder, open_handle, remove
from align.system.terminal import say
from align.world.here import attempt, node
from align.world.stages import standing

FOLDER = "launch"  # in the run folder
ALONE = "0"  # the attempt of a run that no job has started
WIDTH = 1000  # characters of a file, so that a shorter text covers a longer one
REASON = 400  # of them for why a process has ended
ANOTHER = "another process of this run has ended"  # why this one has: what it met with is no cause
NUMBER = re.compile(r"rank-(\d+)\.json")


def attempt_folder(run: Path, name: str = "") -> Path:
    return run / FOLDER / f"attempt-{name or attempt() or ALONE}"


def new_attempt(run: Path) -> None:
    """An empty folder; by one process, before the others write into it."""
    inner_folder(run / FOLDER)
    remove(attempt_folder(run))
    attempt_folder(run).mkdir()


@dataclass(frozen=True, kw_only=True)
class Sign:
    """What a rank says of itself."""

    rank: int
    node: str = "?"
    pid: int = 0
    beats: int = 0
    every: float = 0.0  # seconds to the next one
    time: float = 0.0  # of the node's clock
    stage: str = "?"
    step: int = 0
    since: float = 0.0  # that it is in this stage
    moves: int = 0
    ended: str = ""  # why this is the last one; empty: it is not


@dataclass
class Heartbeat:
    """One rank's."""

    folder: Path
    rank: int
    every: float  # seconds between two beats
    beats: int = 0
    handle: int = -1
    of_stacks: int = -1  # likewise a handle
    broken: bool = field(default=False)

    def beat(self, ended: str = "") -> None:
        """`ended` says why this is the last one."""
        now, self.beats = standing(), self.beats + 1
        told = Sign(
            rank=self.rank, node=node(), pid=os.getpid(), beats=self.beats, every=self.every, time=time.time(),
            stage=now.stage, step=now.step, since=now.since, moves=now.moves, ended=ended[:REASON],
        )  # fmt: skip
        with self._telling():
            if self.handle < 0:
                self.handle = open_handle(self.folder / f"rank-{self.rank:05d}.json", os.O_WRONLY | os.O_CREAT)
            os.pwrite(self.handle, f"{json.dumps(asdict(told)):{WIDTH}}\n".encode(), 0)

    def stacks(self) -> None:
        """Where each thread of this process is, also one that waits inside a collective."""
        with self._telling():
            faulthandler.dump_traceback(self._emptied(), all_threads=True)

    def stacks_after(self, seconds: float) -> None:
        """They are written by a thread that needs no Python, unless this is called again within so many seconds."""
        with self._telling():
            faulthandler.dump_traceback_later(seconds, file=self._emptied())

    def end(self) -> None:
        """No more of either; a file without stacks goes."""
        faulthandler.cancel_dump_traceback_later()
        with self._telling():
            if self.of_stacks >= 0 and not os.fstat(self.of_stacks).st_size:
                self._stacks_path().unlink(missing_ok=True)
        for handle in (self.handle, self.of_stacks):
            if handle >= 0:
                os.close(handle)
        self.handle = self.of_stacks = -1

    def _stacks_path(self) -> Path:
        return self.folder / f"stacks-{self.rank:05d}.txt"

    def _emptied(self) -> int:
        """The file of the stacks; what stands in it is of a pause that is over."""
        if self.of_stacks < 0:
            self.of_stacks = open_handle(self._stacks_path(), os.O_WRONLY | os.O_CREAT)
        if os.fstat(self.of_stacks).st_size:
            os.ftruncate(self.of_stacks, 0)
            os.lseek(self.of_stacks, 0, os.SEEK_SET)
        return self.of_stacks

    @contextlib.contextmanager
    def _telling(self) -> Any:
        """A run does not end because a heartbeat cannot be written; that is said once."""
        try:
            yield
        except OSError as error:
            if not self.broken:
                say(f"warning: {self.folder}: heartbeats cannot be written: {error}", file=sys.stderr)
            self.broken = True


def read_beats(folder: Path) -> dict[int, Sign]:
    """Rank -> what it said last. One that is being written at this moment is read again."""
    found: dict[int, Sign] = {}
    for path in sorted(folder.glob("rank-*.json")):
        if number := NUMBER.fullmatch(path.name):
            found[int(number[1])] = _read(path, int(number[1]))
    return found


def _read(path: Path, rank: int) -> Sign:
    for _ in range(5):
        with contextlib.suppress(OSError, ValueError):  # pydantic's errors are ValueErrors
            return TypeAdapter(Sign).validate_json(path.read_bytes())
        time.sleep(0.05)
    return Sign(rank=rank, ended=f"{path.name} cannot be read")
