"""The process in which a program of unknown intent runs. Started by `sandbox`, as a file, without this package.

It reads one line of JSON from its standard input, limits itself, and where the system lets it goes into name spaces of
its own: no network, no other processes to see or kill, a read-only file system but for its own folder. The program runs
in a child of it; when that has ended, or its time is over, all that it started is killed. What came of it is written
to the file descriptor that the line names, with a word that the program is not told: leaving early is not passing.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import struct
import sys
import time
import traceback
from types import FrameType
from typing import Any

NEW_MOUNTS, NEW_IPC, NEW_USER, NEW_PROCESSES, NEW_NETWORK = 0x20000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
BIND, REMOUNT, READ_ONLY, RECURSIVE, PRIVATE = 4096, 32, 1, 16384, 1 << 18
DIE_WITH_PARENT, KEEP_RIGHTS, SUBREAPER = 1, 8, 36  # of prctl
RIGHTS_VERSION, READ_ANY = 0x20080522, 1 << 2  # of capset: CAP_DAC_READ_SEARCH
MIB = 2**20
NAME = "answer.py"  # as tracebacks call the program
POLL = 0.005  # seconds
NOBODY = 65534  # a user who owns nothing
PROCESSES = 32  # that the program's user may have


def main() -> None:
    asked: dict[str, Any] = json.loads(sys.stdin.readline())
    sys.stdin.close()
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
    apart = _go_apart(libc, asked["folder"]) if libc else []
    if libc:
        libc.prctl(SUBREAPER, 1)
    child = os.fork()
    if child == 0:
        _run(asked, apart, libc)
    _supervise(child, asked, alone="processes" in apart)


# ---- the one that watches -------------------------------------------------------------------------------------------


def _supervise(child: int, asked: dict[str, Any], *, alone: bool) -> None:
    """`alone`: the child is the first process of a name space, and all others in it end with it."""
    limit = time.monotonic() + asked["timeout"]
    status, why = None, f"timed out after {asked['timeout']:g} seconds"
    while time.monotonic() < limit:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            break
        status = None
        time.sleep(POLL)
    _kill_all(child, alone=alone)
    if status is None:
        _tell(asked, {"passed": False, "why": why}, asked["word"])
    elif os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        why = "used up its time on the processor" if name in ("SIGXCPU", "SIGKILL") else f"was ended by {name}"
        _tell(asked, {"passed": False, "why": why}, asked["word"])
    os._exit(0)


def _kill_all(child: int, *, alone: bool) -> None:
    """The child and whatever came to be this process's child since, until there is nobody left."""
    for _ in range(1000):
        for victim in {child} if alone else {child, *_children()}:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(victim, signal.SIGKILL)
        try:
            os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        time.sleep(0.001)


def _children() -> list[int]:
    """All that descend from here; orphans come to be children of this process, since it asked for them."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc") if os.path.isdir("/proc") else ():
        if name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{name}/stat") as file:
                parents[int(name)] = int(file.read().rpartition(")")[2].split()[1])
    found, newest = set[int](), {os.getpid()}
    while newest:
        newest = {pid for pid, parent in parents.items() if parent in newest} - found
        found |= newest
    return sorted(found)


# ---- apart from all else --------------------------------------------------------------------------------------------


def _go_apart(libc: ctypes.CDLL, folder: str) -> list[str]:
    """What could be had: `network`, `processes`, `files`; `user` comes later."""
    user, group = os.getuid(), os.getgid()
    everything = NEW_NETWORK | NEW_IPC | NEW_MOUNTS | NEW_PROCESSES
    if libc.unshare(everything) == 0:
        pass
    elif libc.unshare(everything | NEW_USER) == 0:
        for name, line in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            with contextlib.suppress(OSError), open(f"/proc/self/{name}", "w") as file:
                file.write(line)
    else:
        return ["network"] if libc.unshare(NEW_NETWORK) == 0 or libc.unshare(NEW_NETWORK | NEW_USER) == 0 else []
    found = ["network", "processes"]
    return [*found, "files"] if _read_only(libc, folder) else found


def _read_only(libc: ctypes.CDLL, folder: str) -> bool:
    """The whole tree, but for the folder that is the program's own."""
    place = folder.encode()
    steps = (
        (b"none", b"/", None, RECURSIVE | PRIVATE),
        (b"/", b"/", None, BIND | RECURSIVE),
        (place, place, None, BIND),
        (b"none", b"/", None, BIND | REMOUNT | READ_ONLY),
    )
    return all(libc.mount(source, target, kind, flags, None) == 0 for source, target, kind, flags in steps)


def _be_nobody(libc: ctypes.CDLL) -> None:
    """Root, of whose processes the system counts none, becomes a user who owns nothing, and keeps the one right to
    read: Python's own modules may lie where nobody may look."""
    libc.prctl(KEEP_RIGHTS, 1)
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    header, rights = struct.pack("Ii", RIGHTS_VERSION, 0), struct.pack("6I", READ_ANY, READ_ANY, 0, 0, 0, 0)
    if libc.capset(header, rights) != 0:
        raise OSError(ctypes.get_errno(), "capset")


# ---- the one that runs ----------------------------------------------------------------------------------------------


def _run(asked: dict[str, Any], apart: list[str], libc: ctypes.CDLL | None) -> None:
    word = asked.pop("word")
    _limit(asked)
    if libc and os.getuid() == 0:
        with contextlib.suppress(OSError):
            os.chown(asked["folder"], NOBODY, NOBODY)
            _be_nobody(libc)
            apart = [*apart, "user"]
    if libc:
        libc.prctl(DIE_WITH_PARENT, signal.SIGKILL)  # after the change of the user, which would take it away
    os.chdir(asked["folder"])
    signal.signal(signal.SIGXCPU, _over)
    told: dict[str, Any] = {"passed": False, "why": "", "apart": apart}
    try:
        exec(compile(asked.pop("program"), NAME, "exec"), {"__name__": "answer"})
        told["passed"] = True
    except MemoryError:
        told["why"] = "asked for more memory than it may have"
    except BaseException as error:  # also SystemExit: a program that leaves has passed nothing
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == NAME]
        place = f" in line {frames[-1].lineno}" if frames else ""
        told["why"] = f"{type(error).__name__}{place}: {error}"[:300]
    _tell(asked, told, word)
    os._exit(0)


def _over(number: int, frame: FrameType | None) -> None:
    raise TimeoutError("used up its time on the processor")


def _limit(asked: dict[str, Any]) -> None:
    seconds, size = int(asked["timeout"]) + 1, asked["memory"] * MIB
    limits = {
        resource.RLIMIT_CPU: (seconds, seconds + 1), resource.RLIMIT_AS: (size, size),
        resource.RLIMIT_FSIZE: (MIB, MIB), resource.RLIMIT_NOFILE: (64, 64), resource.RLIMIT_CORE: (0, 0),
        resource.RLIMIT_NPROC: (PROCESSES, PROCESSES),
    }  # fmt: skip
    for what, values in limits.items():
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(what, values)


def _tell(asked: dict[str, Any], told: dict[str, Any], word: str) -> None:
    with contextlib.suppress(OSError):
        os.write(asked["tell"], json.dumps({**told, "word": word}).encode() + b"\n")


if __name__ == "__main__":
    main()
