"""Servers where the job of this run has places for them: on nodes of their own, or on GPUs that no rank has.

In each place the job has put a keeper (`keeper`). The run writes its orders into a folder that both see, and reads
there what the keepers say: `order-0.json`, `place-0.json`, and so on. So it starts a server on another machine as it
does on its own, with the same words, and again where one has died.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter

from align.errors import Lost, RunError, UserError
from align.rollout.settings import RolloutSection
from align.rollout.vllm.client import AGAIN, Refused, ServerError
from align.rollout.vllm.server import LOCAL, PATIENCE, POLL, Starting, words_of
from align.system.files import write_json

FOLDER, COUNT, GPUS = "ALIGN_SERVERS", "ALIGN_NUM_SERVERS", "ALIGN_SERVER_GPUS"  # job.sh says them
FALLEN = "fallen"  # a line for each server that has ended by itself; job.sh reads the last

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a keeper is to do now; a higher number is a new one."""

    number: int
    words: Sequence[str] = ()  # the server's command line, but for where it listens; none: to end the one there is
    host: str = ""  # where it is to listen; empty: at the node's address
    log: str = ""


@dataclass(frozen=True, kw_only=True)
class Word:
    """What a keeper says of its place."""

    node: str
    number: int = 0  # of the order that this is about; 0: none has come yet
    url: str = ""
    ended: str = ""  # why the server answers no more


@dataclass(frozen=True)
class Place:
    """One place, seen from the run or from its keeper."""

    folder: Path
    number: int  # from 0

    def order(self) -> Order | None:
        """The last one; None before the first."""
        return _read(self.folder / f"order-{self.number}.json", Order)

    def give(self, order: Order) -> None:
        write_json(self.folder / f"order-{self.number}.json", asdict(order))

    def word(self) -> Word | None:
        """None before the keeper has said anything."""
        return _read(self.folder / f"place-{self.number}.json", Word)

    def say(self, word: Word) -> None:
        write_json(self.folder / f"place-{self.number}.json", asdict(word))


@dataclass
class Placed:
    """A server in a place: what it is depends on its keeper's word."""

    place: Place
    number: int  # of the order that has asked for it
    log: Path
    said: Word | None = field(default=None, init=False)

    @property
    def url(self) -> str:
        word = self._word()
        return word.url if word else ""

    def ended(self) -> str:
        word = self._word()
        return word.ended if word else ""

    def end(self) -> None:
        """Waits until its keeper has ended it, or has had the time to."""
        self.place.give(Order(number=self.number + 1))
        limit = time.monotonic() + PATIENCE + POLL
        while (word := self.place.word()) and word.number <= self.number and time.monotonic() < limit:
            time.sleep(POLL)

    def _word(self) -> Word | None:
        """Of this server; not of one that was there before it."""
        word = self.place.word()
        return word if word and word.number == self.number else None


def places() -> list[Place]:
    """Those that the job of this process has; none outside of a job, or where it was not asked for any."""
    folder, count = os.environ.get(FOLDER, ""), os.environ.get(COUNT, "")
    return [Place(Path(folder), number) for number in range(int(count or 0))] if folder else []


def start_in(place: Place, settings: RolloutSection, folder: Path, arguments: Sequence[str], log: Path) -> Starting:
    """Orders a server that serves the model in `folder`; on all GPUs of its place, unless `vllm_arguments` say less."""
    gpus = int(os.environ.get(GPUS, "") or 0)
    over = ("--tensor-parallel-size", str(gpus)) if gpus > 1 else ()
    words = words_of(settings, settings.server_commands[0], folder, [*arguments, *over])
    before = place.order()
    number = before.number + 1 if before else 1
    host = "" if settings.vllm_host == LOCAL else settings.vllm_host
    place.give(Order(number=number, words=words, host=host, log=str(log)))
    return Starting(Placed(place, number, log), settings)


def refuse_lists(settings: RolloutSection) -> None:
    """UserError where a recipe says more of servers than the job's places leave open."""
    if settings.server_urls:
        raise UserError(
            "rollout.vllm_server_base_url: names servers that run already, and the job has places for its own; leave "
            "one of both out"
        )
    if len(settings.server_commands) > 1:
        raise UserError(
            f"rollout.vllm_command: has {len(settings.server_commands)} commands, and the job starts the same one in "
            "each of its places; name one"
        )


def fallen(error: ServerError) -> RunError:
    """What ends a run whose last server is lost: in a job that has placed it the job may be tried again."""
    kind = Lost if places() and not isinstance(error, Refused) else RunError
    return kind(error.with_cure(AGAIN))


def _read(path: Path, kind: type[T]) -> T | None:
    with contextlib.suppress(FileNotFoundError):
        return TypeAdapter(kind).validate_json(path.read_bytes())
    return None
