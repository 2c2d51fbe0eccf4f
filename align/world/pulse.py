"""Whether all processes of a run live, and whether the run gets on. A collective waits for hours for one that has been
killed or stopped: NCCL does not notice at all, and a machine that is gone says nothing to anybody.

Every process counts in the store through which they found each other, in a thread of its own, so that it also counts
while the process prepares data or waits. Each watches the next; one that finds a silence writes it down for all. So it
does where all count and no rank has finished anything for as long as patience lasts (ALIGN_PATIENCE, seconds): then one
is stuck and the others wait for it. Each writes its stacks into the run folder and ends. Looks are counted, not
seconds: after a pause of all processes together (a suspended job) nobody is missed.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from align.errors import Lost, UserError
from align.system.terminal import say
from align.world.distributed import lost
from align.world.heartbeat import ANOTHER, Heartbeat
from align.world.here import attempt, node, speaker
from align.world.stages import PATIENT, standing

EVERY = 5.0  # seconds between two looks
SOONER = 0.8  # of the time after which a process is given up: by then a stuck one has written where it stands
MISSES = 24  # looks without a sign of life: two minutes, more than any call keeps Python from its threads
GRACE = 6  # looks that a process has to end by itself once another is known to be gone
PATIENCE = 1800.0  # seconds in which some rank must finish something: a micro-batch, a chunk of completions
VARIABLE = "ALIGN_PATIENCE"
ANSWERED = timedelta(minutes=2)  # in which the store must answer
LOST, MOVED = "lost", "moved"
SHOWN = 8  # ranks that a message names
_runs = itertools.count()  # of this process; the same on all of them


@dataclass
class Pulse:
    """One process's."""

    store: Any  # of torch: set, get, check, add
    rank: int
    size: int
    misses: int = MISSES
    grace: int = GRACE
    patience: int = math.ceil(PATIENCE / EVERY)  # looks
    count: int = 0
    seen: bytes = b""  # the last word of the process that is watched
    silent: int = 0  # looks since it changed
    told: int = 0  # looks since a loss is known
    moves: int = -1  # of this process, at the last look
    total: int = -1  # of all, then
    still: int = 0  # looks since that has grown

    def look(self) -> str:
        """Counts on and looks around once. Why this process must end; empty while all is well."""
        try:
            return self._look()
        except (dist.DistError, RuntimeError):  # who kept the store has ended
            self.silent += 1
            gone = self.told or self.silent >= self.misses
            return "the process that kept the others together is gone" if gone else ""

    def _look(self) -> str:
        self.count += 1
        self.store.set(str(self.rank), json.dumps([self.count, node(), standing().text]))
        other = (self.rank + 1) % self.size
        if self.store.check([LOST]):
            self.told += 1
            last = self.grace + (self.rank == 0)  # who keeps the store goes last
            return self.store.get(LOST).decode() if self.told >= last else ""
        if self.store.check([f"done {other}"]):
            return ""
        found = self.store.get(str(other)) if self.store.check([str(other)]) else b""
        self.silent = self.silent + 1 if found == self.seen else 0
        self.seen = found
        if self.silent >= self.misses:
            who = f"rank {other}{f' on {json.loads(found)[1]}' if found else ''}"
            return self._lose(f"nothing has been heard of {who}: it was killed or stopped, or its machine is gone")
        return self._lose(f"no rank has got on: {self._places()}") if self._stuck() else ""

    def _stuck(self) -> bool:
        """Whether nobody has finished anything for as long as patience lasts."""
        now = standing()
        grown = now.moves != self.moves or now.stage in PATIENT
        self.moves = now.moves
        total = int(self.store.add(MOVED, int(grown)))
        self.still = self.still + 1 if total == self.total else 0
        self.total = total
        return self.still >= self.patience

    def _places(self) -> str:
        """Where the ranks stand; those who stand where the fewest do come first."""
        ranks = [r for r in range(self.size) if self.store.check([str(r)])]
        where: dict[str, list[str]] = {}
        for rank in ranks:
            _, of_node, text = json.loads(self.store.get(str(rank)))
            where.setdefault(text, []).append(f"{rank} on {of_node}")
        few = sorted(where.items(), key=lambda item: len(item[1]))
        return "; ".join(f"rank {', '.join(who[:SHOWN])}{' ...' * (len(who) > SHOWN)}: {text}" for text, who in few)

    def _lose(self, text: str) -> str:
        """Tells all, this process among them, which then have time to say where they stand."""
        self.store.set(LOST, text)
        self.told = 1
        return ""

    def leave(self, failure: BaseException | None) -> None:
        """This process ends: well, or so that the others must, too."""
        with contextlib.suppress(dist.DistError, RuntimeError):
            self.store.set(f"done {self.rank}", "")
            if failure is not None and not self.store.check([LOST]):
                self.store.set(LOST, f"rank {self.rank} has ended: {failure}")


@dataclass
class Beat:
    """The thread that looks every so many seconds, and tells what it sees to the run folder."""

    pulse: Pulse | None  # None of a process that is alone
    every: float = EVERY
    misses: int = MISSES
    heartbeat: Heartbeat | None = None
    stopped: threading.Event = field(default_factory=threading.Event)
    parent: int = field(default_factory=os.getppid)
    looker: threading.Thread | None = None  # a look waits for ever where the one who keeps the store is stopped
    unanswered: int = 0  # looks at a look that has no end
    found: str = ""
    stacks_written: bool = False  # since a loss is known

    def keep(self, heartbeat: Heartbeat) -> None:
        """From now on there is a file of it."""
        self.heartbeat = heartbeat
        self._beat()

    def run(self) -> None:
        while not self.stopped.wait(self.every):
            self.once()

    def once(self) -> None:
        """One look, which may still be under way when this returns: what it sees is told by the next."""
        reason = self._orphaned() or self._looked()
        if not reason:
            self._beat()
        if self.heartbeat and (reason or (self.pulse and self.pulse.told and not self.stacks_written)):
            self.heartbeat.stacks()
            self.stacks_written = True
        if reason:
            self.end(reason)

    def _beat(self) -> None:
        if self.heartbeat:
            self.heartbeat.beat()
        if self.heartbeat and not (self.pulse and self.pulse.told):
            # a call that holds Python keeps this thread from it, too; written before the others give this process up
            self.heartbeat.stacks_after(self.every * self.misses * SOONER)

    def end(self, reason: str) -> None:
        """From a thread, while the main one waits inside a collective, where no exception reaches it."""
        if self.heartbeat:
            self.heartbeat.beat(reason)
        say(f"{speaker()}: {reason}. This process ends, too; go on with --resume", file=sys.stderr)
        sys.stdout.flush()
        os._exit(Lost.exit_code)

    def last(self, failure: BaseException | None) -> None:
        told = "finished" if failure is None else str(failure) or type(failure).__name__
        if self.heartbeat:
            self.heartbeat.beat(f"{ANOTHER} ({told})" if failure is not None and lost(failure) else told)
            self.heartbeat.end()

    def _orphaned(self) -> str:
        if attempt() and os.getppid() != self.parent:  # Slurm would wait for ever for a step that has lost its keeper
            return "what has started this process is gone (slurmstepd was killed)"
        return ""

    def _looked(self) -> str:
        if self.pulse is None:
            return ""
        if self.looker and self.looker.is_alive():
            self.unanswered += 1
            silent = self.unanswered >= self.pulse.misses
            return f"rank 0 at {os.environ.get('MASTER_ADDR')} does not answer: it was stopped" if silent else ""
        self.unanswered = 0
        self.looker = threading.Thread(target=self._look, args=(self.pulse,), name="look", daemon=True)
        self.looker.start()
        return self.found

    def _look(self, pulse: Pulse) -> None:
        self.found = pulse.look()


@contextmanager
def pulse(rank: int, size: int, every: float = 0.0, misses: int = MISSES) -> Iterator[Beat]:
    """Around all that the processes do together. One that is alone has no others to look at."""
    patience = patience_of()
    every = every or min(EVERY, patience / MISSES)
    one: Pulse | None = None
    if size > 1 and dist.is_initialized():
        store = dist.PrefixStore(f"pulse of run {next(_runs)}", own(dist.distributed_c10d._get_default_store()))
        one = Pulse(store, rank, size, misses, patience=math.ceil(patience / every))
    beat = Beat(one, every, misses)
    thread = threading.Thread(target=beat.run, name="pulse", daemon=True)
    thread.start()
    failure: BaseException | None = None
    try:
        yield beat
    except BaseException as error:
        failure = error
        raise
    finally:
        if one is not None:
            one.leave(failure)  # while the thread still looks: where rank 0 is stopped this has no end
        beat.stopped.set()
        thread.join(EVERY)
        beat.last(failure)


def own(common: Any) -> Any:
    """A connection to the processes' store that nobody else waits on. Lost where there is no store any more."""
    patience = common.timeout  # hours: a collective's
    common.set_timeout(ANSWERED)
    try:
        store = common.clone()
    except dist.DistError as error:
        raise Lost(f"the process that kept the others together is gone ({str(error).splitlines()[0]})") from error
    finally:
        common.set_timeout(patience)
    store.set_timeout(patience)
    return store


def patience_of() -> float:
    """Seconds. UserError where the variable is no such number."""
    told = os.environ.get(VARIABLE, "")
    try:
        seconds = float(told) if told else PATIENCE
    except ValueError:
        seconds = math.nan
    if not 1 <= seconds < math.inf:
        raise UserError(f"{VARIABLE}: {told!r}, expected seconds, at least 1, such as {PATIENCE:.0f}")
    return seconds

