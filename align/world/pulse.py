"""Whether all processes of a run live. A collective waits for hours for one that has been killed or stopped: NCCL does
not notice at all, and a machine that is gone says nothing to anybody.

Every process counts in the store through which they found each other, in a thread of its own, so that it also counts
while the process prepares data or waits. Each watches the next; one that finds a silence writes it down for all. Looks
are counted, not seconds: after a pause of all processes together (a suspended job) nobody is missed.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch.distributed as dist

from align.errors import AlignError
from align.system.terminal import say

EVERY = 5.0  # seconds
MISSES = 24  # looks without a sign of life: two minutes, more than any call keeps Python from its threads
GRACE = 6  # looks that a process has to end by itself once another is known to be gone
LOST = "lost"
_runs = itertools.count()  # of this process; the same on all of them


@dataclass
class Pulse:
    """One process's."""

    store: Any  # of torch: set, get, check
    rank: int
    size: int
    misses: int = MISSES
    grace: int = GRACE
    count: int = 0
    seen: bytes = b""  # the last count of the process that is watched
    silent: int = 0  # looks since it changed
    told: int = 0  # looks since a loss is known

    def look(self) -> str:
        """Counts on and looks around once. Why this process must end; empty while all is well."""
        try:
            return self._look()
        except (dist.DistError, RuntimeError):  # who kept the store has ended
            self.silent += 1
            return "the process that kept the others together is gone" if self.silent >= self.misses else ""

    def _look(self) -> str:
        self.count += 1
        self.store.set(str(self.rank), str(self.count))
        other = (self.rank + 1) % self.size
        if self.store.check([LOST]):
            self.told += 1
            return self.store.get(LOST).decode() if self.told >= self.grace else ""
        if self.store.check([f"done {other}"]):
            return ""
        found = self.store.get(str(other)) if self.store.check([str(other)]) else b""
        self.silent = self.silent + 1 if found == self.seen else 0
        self.seen = found
        if self.silent >= self.misses:
            text = f"nothing has been heard of rank {other}: it was killed or stopped, or its machine is gone"
            self.store.set(LOST, text)
            return text
        return ""

    def leave(self, failure: BaseException | None) -> None:
        """This process ends: well, or so that the others must, too."""
        with contextlib.suppress(dist.DistError, RuntimeError):
            self.store.set(f"done {self.rank}", "")
            if failure is not None and not self.store.check([LOST]):
                self.store.set(LOST, f"rank {self.rank} has ended: {failure}")


@dataclass
class Beat:
    """The thread that looks every so many seconds."""

    pulse: Pulse
    end: Callable[[str], Any]
    every: float = EVERY
    stopped: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self.stopped.wait(self.every):
            if reason := self.pulse.look():
                self.end(reason)
                return


@contextmanager
def pulse(rank: int, size: int, every: float = EVERY, misses: int = MISSES) -> Iterator[None]:
    """Around all that the processes do together; nothing where there is one."""
    if size == 1 or not dist.is_initialized():
        yield
        return
    common: Any = dist.distributed_c10d._get_default_store()
    store = dist.PrefixStore(f"pulse of run {next(_runs)}", common.clone())  # a connection that nobody else waits on
    beat = Beat(Pulse(store, rank, size, misses), _end, every)
    thread = threading.Thread(target=beat.run, name="pulse", daemon=True)
    thread.start()
    failure: BaseException | None = None
    try:
        yield
    except BaseException as error:
        failure = error
        raise
    finally:
        beat.stopped.set()
        thread.join(EVERY)
        beat.pulse.leave(failure)


def _end(reason: str) -> None:
    """From a thread, while the main one waits inside a collective, where no exception reaches it."""
    rank = os.environ.get("RANK", "0")
    say(f"align (rank {rank}): {reason}. This process ends, too; go on with --resume", file=sys.stderr)
    sys.stdout.flush()
    os._exit(AlignError.exit_code)

