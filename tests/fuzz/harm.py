"""What is done to a run from within its own process, at its n-th change of the file system.

An instant is what Python announces before it is done (a file opened for writing, a rename, a removal, a new folder) and
every flush to the disk. They are counted in the order in which they come, so the same number is the same instant again.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

CHANGES = ("os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.link", "os.symlink", "os.truncate", "shutil.rmtree")
FLUSH = "fuzz.flush"
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

Kind = Literal["kill", "tear", "fill", "starve"]


@dataclass(frozen=True)
class Harm:
    """`kill`: SIGKILL before the instant. `tear`: from there on the write that takes a file beyond `size` bytes is cut
    there and kills. `fill`: it is cut there and fails, as on a full disk. `starve`: `size` more files can be open.
    """

    kind: Kind
    instant: int
    size: int = 0

    def __str__(self) -> str:
        limit = {"kill": "", "starve": f", {self.size} more open files"}.get(self.kind, f", files of {self.size} bytes")
        return f"{self.kind} at instant {self.instant}{limit}"


class Watch:
    """Counts the instants of this process below `places`, and does its harm at one of them."""

    def __init__(self, places: tuple[Path, ...], harm: Harm | None):
        self.places, self.harm, self.seen = tuple(map(str, places)), harm, 0
        self._process, self._fsync = os.getpid(), os.fsync
        os.fsync = self._flush
        if harm is not None and harm.kind == "tear":
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # which Python ignores; then such a write fails
        sys.addaudithook(self._hear)

    def _flush(self, handle: Any) -> None:
        sys.audit(FLUSH)
        self._fsync(handle)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if os.getpid() != self._process or not self._counts(event, arguments):
            return
        self.seen += 1
        if self.harm is not None and self.seen == self.harm.instant:
            strike(self.harm)

    def _counts(self, event: str, arguments: tuple[Any, ...]) -> bool:
        if event == FLUSH:
            return True
        if event == "open":
            path, mode, flags = arguments
            writes = any(c in mode for c in "wax+") if isinstance(mode, str) else bool((flags or 0) & WRITING)
            return writes and self._inside(path)
        return event in CHANGES and self._inside(arguments[0])

    def _inside(self, path: Any) -> bool:
        return isinstance(path, str | os.PathLike) and os.path.abspath(path).startswith(self.places)


def strike(harm: Harm) -> None:
    if harm.kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    what = resource.RLIMIT_NOFILE if harm.kind == "starve" else resource.RLIMIT_FSIZE
    used = max(map(int, os.listdir("/proc/self/fd"))) if harm.kind == "starve" else 0
    resource.setrlimit(what, (used + harm.size, resource.getrlimit(what)[1]))
