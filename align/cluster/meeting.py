"""How the ranks of an attempt find each other before anything is loaded: a store that rank 0 keeps at an address and a
port that all know. It is the one that the run's process group will use.

Whatever answers there need not be rank 0: another program may have the port, or rank 0 of another run. So rank 0 says
who it is before anybody believes it, and nobody waits longer than the limit.
"""

from __future__ import annotations

import datetime
import json
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import torch.distributed as dist

from align.cluster.attempt import Attempt, Rank
from align.errors import UserError

PAUSE = 0.1  # seconds between two looks
READING = 10.0  # seconds
HELLO = "hello"


@dataclass(frozen=True)
class Meeting:
    """The store, and until when it may be waited for."""

    attempt: Attempt
    rank: Rank
    store: Any  # under the attempt's own names
    common: Any  # the same; kept alive for whoever comes to it next
    end: float  # of time.monotonic

    def tell(self, name: str, value: Any) -> None:
        self.store.set(name, json.dumps(value))

    def told(self, name: str, grace: float = 0.0) -> Any:
        """What somebody tells under this name; None where nobody has until the end."""
        try:
            while not self.store.check([name]):
                if time.monotonic() > self.end + grace:
                    return None
                time.sleep(PAUSE)
            text = self.store.get(name)
            self.store.add(f"read {name}", 1)
        except (dist.DistError, RuntimeError):
            text = f"{self.rank.name}: rank 0{self.attempt.node_of(0)} has ended; look in the log for its reason"
            raise UserError(text) from None
        return json.loads(text)

    def await_readers(self, name: str, count: int) -> None:
        """Until so many have read it, or have had the time to: who keeps the store may end then."""
        end = time.monotonic() + READING
        while self.store.add(f"read {name}", 0) < count and time.monotonic() < end:
            time.sleep(PAUSE)


def meet(attempt: Attempt, rank: Rank) -> Meeting:
    """UserError, naming host and port, where rank 0 is not there."""
    end = time.monotonic() + attempt.limit
    place = f"{rank.host}:{rank.port}"
    opened = _Opening(rank)
    if not rank.keeps:
        _await_port(attempt, rank, end)
    opened.start()
    opened.join(max(0.0, end - time.monotonic()))
    if opened.failure and rank.keeps:
        raise UserError(
            f"{rank.name}: {place}, where the ranks were to meet, is in use by another program ({opened.failure}). "
            "Submit the job again: it looks for another port"
        )
    if opened.store is None:
        raise _stranger(attempt, rank, opened.failure or "it does not answer as rank 0 would")
    meeting = Meeting(attempt, rank, dist.PrefixStore("preflight", opened.store), opened.store, end)
    if rank.number == 0:
        meeting.tell(HELLO, attempt.name)
    elif (said := meeting.told(HELLO)) != attempt.name:
        raise _stranger(attempt, rank, f"it is rank 0 of {said}" if said else "it does not say who it is")
    if meeting.store.add(f"rank {rank.number}", 1) > 1:
        raise UserError(f"{rank.name}: another process is rank {rank.number}, too; see how job.sh sets RANK")
    return meeting


@dataclass
class _Opening(threading.Thread):
    """A stranger that is silent would keep the store's constructor for ever."""

    rank: Rank
    store: Any = None
    failure: str = ""
    daemon: bool = field(default=True)

    def __post_init__(self):
        super().__init__(daemon=True)

    def __hash__(self) -> int:
        return id(self)

    def run(self) -> None:
        wait = datetime.timedelta(hours=2)  # of whoever uses the store after the preflight
        host, port, size = self.rank.host, self.rank.port, self.rank.size
        try:
            self.store = dist.TCPStore(
                host, port, size, self.rank.keeps, wait, wait_for_workers=False, multi_tenant=True
            )
        except (dist.DistError, RuntimeError, ValueError) as error:
            self.failure = str(error).splitlines()[0]


def _await_port(attempt: Attempt, rank: Rank, end: float) -> None:
    """Until something listens there."""
    while True:
        try:
            with socket.create_connection((rank.host, rank.port), timeout=5):
                return
        except OSError as error:
            if time.monotonic() > end:
                raise UserError(
                    f"{rank.name}: nobody answers at {rank.host}:{rank.port} ({error}): rank 0{attempt.node_of(0)} has "
                    f"not arrived within {attempt.limit:.0f} seconds. Look in the log for what ended it, and on that "
                    "node; a firewall between the nodes would look the same"
                ) from None
            time.sleep(PAUSE)


def _stranger(attempt: Attempt, rank: Rank, finding: str) -> UserError:
    return UserError(
        f"{rank.name}: what answers at {rank.host}:{rank.port} is not rank 0 of {attempt.name}: {finding}. Another "
        "program has that port; submit the job again: it looks for another port"
    )
