"""Servers that have the same weights: a request goes to the one that has the fewest on their way.

One that does not answer is left out until there are new weights, and what it was asked is asked of the others. One with
another label than ours has other weights, since it was started anew or somebody else loaded some: it is left out too,
with all that it has written since its label was right. Where none is left, the reason of the last is raised.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from align.rollout.vllm.client import Client, Refused, ServerError

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Address:
    """A server as its users know it."""

    client: Client
    model: str  # the name that it serves the policy under


@dataclass
class Fleet:
    """The servers that have the weights labelled `label`; several threads may ask."""

    all: Sequence[Address]  # ties go to the first
    label: str
    say: Callable[[str], object]
    _asked: list[int] = field(init=False)  # requests on their way to each
    _lost: set[int] = field(init=False, default_factory=set[int])
    _lock: threading.Lock = field(init=False, default_factory=threading.Lock)

    def __post_init__(self):
        self._asked = [0] * len(self.all)

    def ask(self, do: Callable[[Address], Answer]) -> tuple[Address, Answer]:
        """What `do` makes with a server, and which it was. ServerError where none is left to ask."""
        while True:
            number = self._take()
            try:
                return self.all[number], do(self.all[number])
            except Refused:
                raise
            except ServerError as error:
                self._lose(number, error)
            finally:
                with self._lock:
                    self._asked[number] -= 1

    def check_labels(self, when: str) -> None:
        """Leaves out whose weights are others. ServerError where none is left."""
        for number in self._left():
            client = self.all[number].client
            try:
                found = weight_label(client)
            except Refused:
                raise
            except ServerError as error:
                self._lose(number, error)
                continue
            if found != self.label:
                self._lose(number, ServerError(
                    f"vLLM at {client.url}: {when} a batch its weights are {found!r}, expected {self.label!r}: it was "
                    f"started anew, or somebody else loads weights into it. Give the run a server of its own"
                ))  # fmt: skip

    def has(self, address: Address) -> bool:
        return any(self.all[number] is address for number in self._left())

    def _left(self) -> list[int]:
        with self._lock:
            return [number for number in range(len(self.all)) if number not in self._lost]

    def _take(self) -> int:
        with self._lock:
            left = (number for number in range(len(self.all)) if number not in self._lost)  # the last is never lost
            number = min(left, key=self._asked.__getitem__)
            self._asked[number] += 1
            return number

    def _lose(self, number: int, why: ServerError) -> None:
        """Leaves it out; raises `why` where it is the last one."""
        with self._lock:
            if number in self._lost:
                return
            if len(self._lost) == len(self.all) - 1:
                raise why
            self._lost.add(number)
        self.say(f"{why}; its requests are asked of the other servers")


def weight_label(client: Client) -> str:
    """How the server's weights are labelled; vLLM's own word is `default` until somebody labels them."""
    return str((client.get("/weight_info") or {}).get("weight_version"))
