"""One live run per run folder.

Where the file system has it, flock: it ends with the process, however that ends. Elsewhere (some network mounts,
Windows) a file that only one process can create, with pid and host in it, judged by whether that process still lives.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from align.errors import UserError
from align.system.files import open_handle

try:
    import fcntl
except ImportError:  # not POSIX
    fcntl = None

LOCK = ".lock"  # in the run folder
_held: set[int] = set()  # handles that a forked child must not keep: a lock lives as long as any copy of its handle


def _close_in_child() -> None:
    for handle in _held:
        with contextlib.suppress(OSError):
            os.close(handle)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)


@dataclass(frozen=True)
class Words:
    """How somebody is told that another has the folder."""

    holder: str
    elsewhere: str  # what to choose instead


OF_RUN = Words("a live run", "another training.output_dir")


class Lock:
    """Held from `take` to `release`, or to the end of the process."""

    def __init__(self, path: Path, words: Words = OF_RUN):
        self.path, self.words = path, words
        self._handle: int | None = None
        self._file = False  # held by the file's existence, not by flock

    def take(self) -> None:
        """Raises UserError naming the process that holds it."""
        if fcntl is None or not self._flock():
            self._create()

    def release(self) -> None:
        if self._handle is not None:
            os.ftruncate(self._handle, 0)
            _held.discard(self._handle)
            os.close(self._handle)
            self._handle = None
        if self._file:
            self.path.unlink(missing_ok=True)
            self._file = False

    def _flock(self) -> bool:
        """False where the file system has no flock."""
        assert fcntl is not None
        handle = open_handle(self.path, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(handle)
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise self._taken(_note(self.path)) from None
            self._remove_empty()
            return False
        os.ftruncate(handle, 0)
        os.pwrite(handle, _own_note(), 0)
        self._handle = handle
        _held.add(handle)
        return True

    def _create(self) -> None:
        for _ in range(2):
            try:
                handle = open_handle(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            except FileExistsError:
                note = _note(self.path)
                if _may_live(note):
                    raise self._taken(note) from None
                self.path.unlink(missing_ok=True)  # left by a dead process
                continue
            os.write(handle, _own_note())
            os.close(handle)
            self._file = True
            return
        raise self._taken(_note(self.path))

    def _remove_empty(self) -> None:
        if self.path.exists() and self.path.stat().st_size == 0:
            self.path.unlink()

    def _taken(self, note: dict[str, Any]) -> UserError:
        who = f"process {note.get('pid', '?')} on {note.get('host', '?')} since {note.get('since', '?')}"
        cure = f"Wait for it, stop it, or choose {self.words.elsewhere}"
        if note.get("host") not in (None, socket.gethostname()):
            cure += f"; if that machine is gone for certain, remove {self.path}"
        return UserError(f"{self.path.parent}: in use by {self.words.holder}: {who}. {cure}")


def is_free(path: Path) -> bool:
    """Whether nobody holds a lock, found out by taking it for a moment. It is there."""
    lock = Lock(path)
    try:
        lock.take()
    except UserError:
        return False
    lock.release()
    return True


def held_by(path: Path) -> str:
    """Who holds a lock, in words, without taking it; empty: nobody. Of another machine's process it is not known."""
    note = _note(path)
    if not _may_live(note):
        return ""
    return f"process {note.get('pid', '?')} on {note.get('host', '?')}"


def _own_note() -> bytes:
    note = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "started": _started(os.getpid()),
    }
    return json.dumps(note).encode()


def _note(path: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        note = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(note, dict):
            return note
    return {}


def _may_live(note: dict[str, Any]) -> bool:
    """Whether the process of a note may still be running; of another host nothing can be known."""
    if note.get("host") != socket.gethostname():
        return bool(note)  # an empty note: its writer was killed in the act
    try:
        os.kill(int(note["pid"]), 0)
    except PermissionError:
        return True
    except (OSError, KeyError, ValueError):
        return False
    return note.get("started") == _started(int(note["pid"]))  # otherwise the number was given to another process


def _started(pid: int) -> str:
    """The process's start in clock ticks since boot; empty where that is not told."""
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return ""
