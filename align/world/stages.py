"""What this process is doing, by name, so that others can see it from outside: `with doing("evaluating"):`.

The loop and what it calls say where they are; a thread beside them tells it to the other processes and to the run
folder. Nothing here waits or writes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

# What may take hours while all others wait; how long is the business of its own progress, and no hang
PATIENT = ("preparing data", "loading models", "writing the final model")


@dataclass(frozen=True)
class Standing:
    """Where a process stands."""

    stage: str = "starting"
    step: int = 0  # the optimiser step that is being made; 0 before the first
    since: float = 0.0  # the clock's seconds at which the stage began
    moves: int = 0  # grows with everything that is finished: a micro-batch, a chunk of completions, a stage

    @property
    def text(self) -> str:
        return f"step {self.step}, {self.stage}" if self.step else self.stage


_now = Standing(since=time.time())
_lock = threading.Lock()  # completions may be written in a thread beside the training


def standing() -> Standing:
    return _now


@contextmanager
def doing(stage: str, step: int | None = None) -> Iterator[None]:
    """The stage until the end of the block; where that fails it stays, for it says where the process has ended."""
    before = _now
    _go(stage=stage, since=time.time(), step=before.step if step is None else step)
    yield
    _go(stage=before.stage, since=time.time())


def moved() -> None:
    """Something of the stage is done."""
    _go()


def _go(**changes: str | float | int) -> None:
    global _now
    with _lock:
        _now = replace(_now, moves=_now.moves + 1, **changes)  # type: ignore[arg-type]
