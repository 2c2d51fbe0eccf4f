"""The ranks of a run on this machine: started, told what they are told, and ended together.

As in a job of Slurm there is no launcher of another project in between: the ranks are `align train`, with the variables
that a launcher would set. Each has a session of its own, so that a ctrl-C reaches it once, from here; it saves and ends
where this process is killed. Rank 0 speaks as a run alone does; what others say has their number in front.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Thread
from types import FrameType
from typing import IO

from align.cluster.script import sharding
from align.cluster.settings import Sharding, wrong_shares
from align.errors import Lost, Mistakes, UserError
from align.system.orphans import bound
from align.system.terminal import say

FOREIGN = ("ACCELERATE_", "FSDP_", "TORCHELASTIC_", "SLURM_", "ALIGN_")  # of another launcher, or of a job
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GRACE, LAST = 20.0, 20.0  # seconds for the others to end by themselves once a rank has failed, and when asked to
LOOK = 0.05  # seconds between two looks at the ranks
PASSED_ON = (2, 75)  # exit codes that mean something to who started this: a mistake, stopped and saved


@dataclass(frozen=True, kw_only=True)
class LocalRun:
    """How a recipe is run on this machine: the options of `align launch local`."""

    processes: int = 0  # ranks; 0: as many as there are GPUs, one without any
    sharding: Sharding = "ddp"
    offload: str = ""  # optimizer or param, into the main memory
    resume: str = ""  # as of `align train`: auto, or a checkpoint
    allow_changes: tuple[str, ...] = ()  # likewise: keys that may differ from the saved run's

    def __post_init__(self):
        found: list[str] = []
        if self.allow_changes and not self.resume:
            found.append("--allow-changes belongs to --resume")
        if self.processes < 0:
            found.append(f"--processes: {self.processes} must be 0 (as many as there are GPUs) or more")
        found += wrong_shares(self.sharding, self.offload)
        if found:
            raise Mistakes(found)

    def ranks(self, gpus: int) -> int:
        """UserError where that many do not go on this machine."""
        if gpus and self.processes > gpus:
            raise UserError(f"--processes: {self.processes} ranks, and there are {gpus} GPUs; one is needed for each")
        return self.processes or gpus or 1


@dataclass
class Ranks:
    """Processes that end together."""

    processes: list[subprocess.Popen[str]]
    readers: list[Thread] = field(default_factory=list)  # of what they say
    failed: int | None = None  # the first that ended otherwise than well
    _since: float = field(default=0.0, init=False)
    _sent: set[int] = field(default_factory=set, init=False)

    def wait(self) -> int:
        """The exit code for all of them."""
        while (code := self.code()) is None:
            time.sleep(LOOK)
        return code

    def code(self) -> int | None:
        """The exit code for all of them; None while any goes on. To be asked often: it ends those that are left."""
        going = any(p.poll() is None for p in self.processes)
        self._look(time.monotonic())
        if going:
            return None
        for reader in self.readers:
            reader.join()
        if self.failed is None:
            return 0
        code = self.processes[self.failed].returncode
        return code if code in PASSED_ON else 1

    def send(self, number: int) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(number)

    def _look(self, now: float) -> None:
        if self.failed is None:
            failed = {i: p.returncode for i, p in enumerate(self.processes) if p.poll() not in (None, 0)}
            # of several at once the one that was not ended by the loss of another
            self.failed = min(failed, key=lambda i: failed[i] == Lost.exit_code, default=None)
            if self.failed is not None:
                self._since = now
                self._tell(self.processes[self.failed].returncode)
            return
        for after, number in ((GRACE, signal.SIGTERM), (GRACE + LAST, signal.SIGKILL)):
            if self.failed is not None and now > self._since + after and number not in self._sent:
                self._sent.add(number)
                self.send(number)

    def _tell(self, code: int) -> None:
        if len(self.processes) > 1 and code not in PASSED_ON:
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"has ended with {code}"
            say(f"align: rank {self.failed} {how}; the others end, too. Go on with --resume", file=sys.stderr)


def launch(words: Sequence[str], run: LocalRun, gpus: int) -> int:
    """`align train` with these words in each rank; returns the exit code. UserError."""
    with heard() as hear:
        ranks = begin(words, run, gpus)
        hear(ranks.send)
        return ranks.wait()


def begin(
    words: Sequence[str], run: LocalRun, gpus: int, beside: Mapping[str, str] | None = None,
    tell: Callable[[str], object] | None = None,
) -> Ranks:  # fmt: skip
    """The same, under way. `beside` are further variables; `tell` gets each line that a rank says. UserError."""
    number = run.ranks(gpus)
    command = [sys.executable, "-m", "align", "train", *words, *(["--resume", run.resume] if run.resume else [])]
    command += [word for key in run.allow_changes for word in ("--allow-changes", key)]
    port = _free_port()
    told = [environment(rank, number, port, run) | dict(beside or {}) for rank in range(number)]
    ranks = Ranks([_start(command, variables, piped=tell is not None) for variables in told])
    for rank, process in enumerate(ranks.processes):
        if process.stdout:
            ranks.readers.append(Thread(target=_relay, args=(rank, process.stdout, tell or _aside), daemon=True))
            ranks.readers[-1].start()
    return ranks


def environment(rank: int, number: int, port: int, run: LocalRun) -> dict[str, str]:
    """What a rank reads of itself. One process alone has no others to meet, unless an engine wants to be asked for."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    if number == 1 and run.sharding == "ddp":
        return kept
    threads = max(1, (os.cpu_count() or 1) // number)
    engine = sharding(run.sharding, run.offload)
    quiet = {"TORCH_CPP_LOG_LEVEL": "ERROR"}  # else a rank that is gone costs each other one a page of C++ frames
    return {"OMP_NUM_THREADS": str(threads), **quiet, **kept, **engine, **variables(rank, number, port)}


def variables(rank: int, number: int, port: int) -> Mapping[str, str]:
    """As job.sh has them, of one machine."""
    return {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(number), "RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(number), "LOCAL_RANK": str(rank), "GROUP_RANK": "0",
    }  # fmt: skip


def _start(command: Sequence[str], told: Mapping[str, str], *, piped: bool) -> subprocess.Popen[str]:
    main = told.get("RANK", "0") == "0" and not piped
    out = None if main else subprocess.PIPE
    return subprocess.Popen(
        bound(command), env=dict(told), stdin=subprocess.DEVNULL, stdout=out,
        stderr=None if main else subprocess.STDOUT, text=True, errors="replace", start_new_session=True,
    )  # fmt: skip


def _relay(rank: int, out: IO[str], tell: Callable[[str], object]) -> None:
    """What a rank says, line by line; that of another than the first with its number."""
    with out:
        for line in out:
            if line.strip():
                tell(f"rank {rank}: {line.rstrip()}" if rank else line.rstrip())


def _aside(line: str) -> None:
    say(line, file=sys.stderr)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextmanager
def heard() -> Iterator[Callable[[Callable[[int], None]], None]]:
    """Signals go to who is named; those that come before that are kept for it."""
    waiting, to = list[int](), list[Callable[[int], None]]()

    def handle(number: int, frame: FrameType | None) -> None:
        if to:
            to[0](number)
        else:
            waiting.append(number)

    def name(send: Callable[[int], None]) -> None:
        to.append(send)
        for number in waiting:
            send(number)

    heeded = [number for number in FORWARDED if signal.getsignal(number) != signal.SIG_IGN]  # as nohup has it
    before = {number: signal.signal(number, handle) for number in heeded}
    try:
        yield name
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
