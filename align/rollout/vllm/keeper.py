"""`python -m align.rollout.vllm.keeper`: in the places that a job has for servers on a node, starts what the run
orders, watches it and ends it. Slurm starts one on each such node; it ends with the job.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from align.rollout.vllm.placed import FALLEN, FOLDER, GPUS, Order, Place, Word
from align.rollout.vllm.server import POLL, Process, address, free_port, launched, surroundings
from align.system.files import open_end
from align.world.here import node

OF_NODE = "ALIGN_SERVERS_OF_NODE"  # places


@dataclass
class Keeper:
    """One place's."""

    place: Place
    address: str  # of this node, as the others reach it
    environment: Mapping[str, str]  # of a server
    said: Word
    process: Process | None = None

    def look(self) -> None:
        """Does what was ordered last, and says what has become of it."""
        order = self.place.order()
        if order is not None and order.number != self.said.number:
            self._do(order)
        elif self.process is not None and not self.said.ended and (why := self.process.ended()):
            first = why.partition(",")[0].replace("that this run started", f"of this run on {self.said.node}")
            with open_end(self.place.folder / FALLEN) as out:
                out.write(f"{first}\n")
            self._say(replace(self.said, ended=why))

    def _do(self, order: Order) -> None:
        if self.process is not None:
            self.process.end()
            self.process = None
        url = ""
        if order.words:
            port = free_port(self.address)
            words = [*order.words, "--host", order.host or self.address, "--port", str(port)]
            url = address(self.address, port)
            self.process = launched(words, Path(order.log), url, self.environment)
        self._say(Word(node=self.said.node, number=order.number, url=url))

    def _say(self, word: Word) -> None:
        self.place.say(word)
        self.said = word


def keep() -> None:
    """For as long as the job lasts, or until whoever has started this is gone."""
    parent, of_node = os.getppid(), int(os.environ[OF_NODE])
    folder, first = Path(os.environ[FOLDER]), int(os.environ["SLURM_PROCID"]) * of_node
    own = _own_address(os.environ["MASTER_ADDR"])
    keepers = [
        Keeper(Place(folder, first + i), own, surroundings(os.environ) | visible(os.environ, i), Word(node=node()))
        for i in range(of_node)
    ]
    for keeper in keepers:
        keeper.place.say(keeper.said)
    while os.getppid() == parent:
        for keeper in keepers:
            keeper.look()
        time.sleep(POLL)
    for keeper in keepers:
        if keeper.process is not None:
            keeper.process.end()


def visible(environment: Mapping[str, str], local: int) -> dict[str, str]:
    """The GPUs of this node's place number `local`: the last ones are the servers', evenly. Nothing without GPUs."""
    each = int(environment.get(GPUS, "") or 0)
    if not each:
        return {}
    known = environment.get("CUDA_VISIBLE_DEVICES", "")
    gpus = known.split(",") if known else [str(gpu) for gpu in range(int(environment["ALIGN_GPUS"]))]
    first = len(gpus) - each * int(environment[OF_NODE]) + each * local
    return {"CUDA_VISIBLE_DEVICES": ",".join(gpus[first : first + each])}


def _own_address(other: str) -> str:
    """This node's address on the way to the first one, by which it is reached from there. Nothing is sent."""
    family, kind, _, _, target = socket.getaddrinfo(other, 9, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as way:
        way.connect(target)
        return str(way.getsockname()[0])


if __name__ == "__main__":
    keep()
