"""The life of a worker process: the function, then call after call until the pipe is closed.

SIGINT and SIGTERM, which a terminal or a scheduler sends to every process of a run, are the parent's to answer: it ends
the workers once it needs no verdicts any more. A worker whose parent is gone ends by itself.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any

from align.errors import RunError, UserError
from align.outside import drawing, place_of
from align.rewards.base import Sample, call, find_reward

SAFE_PATH = "PYTHONSAFEPATH"  # a variable of Python's
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
POSIX = hasattr(signal, "pthread_sigmask") and hasattr(os, "setpgid")
LOOK = 1.0  # seconds between two looks at who the parent is


@dataclass(frozen=True)
class Verdict:
    """What became of a sample."""

    value: float | None = None
    error: str = ""
    broken: bool = False  # not the sample is to blame: the function does not keep to its signature
    late: bool = False  # given up


@dataclass(frozen=True)
class Task:
    """What a worker is for."""

    name: str
    settings: dict[str, Any]
    place: int  # of the function among those of the recipe
    patience: float  # seconds of a sample after which nobody can want it any more
    path: list[str]  # where modules are looked for
    safe: bool  # whether `SAFE_PATH` was set before `safe_path` set it


@contextmanager
def safe_path() -> Iterator[None]:
    """A Python that is started within finds its own modules before those of the working folder."""
    before = os.environ.get(SAFE_PATH)
    os.environ[SAFE_PATH] = "1"
    try:
        yield
    finally:
        os.environ.pop(SAFE_PATH)
        os.environ.update({SAFE_PATH: before} if before is not None else {})


@contextmanager
def unheard() -> Iterator[None]:
    """A process that is started within it hears SIGINT and SIGTERM only once it is `_settled`."""
    if not POSIX:
        yield
        return
    resource_tracker.ensure_running()  # starting it would let the signals in again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end(process: Any) -> None:
    """Ends a worker, and whatever its function has started and left."""
    if POSIX:
        with suppress(ProcessLookupError, PermissionError):  # it has no group of its own yet, or all of it has ended
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.join()


def work(pipe: Connection, task: Task) -> None:
    """Says "", or what is wrong with the function; then answers every call's samples with a verdict each."""
    _settle()
    sys.path[:] = task.path
    if not task.safe:
        os.environ.pop(SAFE_PATH)  # what the function itself may start
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        function = find_reward(task.name, task.settings)
    except UserError as error:
        pipe.send(str(error))
        return
    with drawing(0):
        getattr(function, "warm", lambda: None)()  # before the clock of the first sample starts
    pipe.send("")
    with open(os.devnull, "w") as nowhere:
        while True:
            try:
                samples = pipe.recv()
                faulthandler.dump_traceback_later(task.patience, exit=True, file=nowhere)
                verdicts = _verdicts(task, function, samples)
                faulthandler.cancel_dump_traceback_later()
                pipe.send(verdicts)
            except (EOFError, OSError):
                return


def _verdicts(task: Task, function: Any, samples: Sequence[Sample]) -> list[Verdict]:
    try:
        return [Verdict(value) for value in call(task.name, function, samples, task.place)]
    except RunError as error:
        return [Verdict(error=str(error), broken=True)] * len(samples)
    except Exception as error:  # whatever a user's function may raise
        return [Verdict(error=place_of(error))] * len(samples)


def _settle() -> None:
    """Apart from the group of the run, so that what is sent to all of it does not end what the function starts."""
    if POSIX:
        os.setpgid(0, 0)
    for number in SIGNALS:
        signal.signal(number, lambda *_: None)  # SIG_IGN would be handed on to programs that the function starts
    if POSIX:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()


def _end_with_parent() -> None:
    """A function that never lets a thread run is ended by the limit of its sample."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    while not wait([parent.sentinel], LOOK) and os.getppid() == parent.pid:
        pass
    if POSIX:
        os.killpg(0, signal.SIGKILL)
    os._exit(1)
