"""The servers of a run, on its main process: all get new weights at once, and one that has died is started anew.

With several, one that cannot be had is left out until the next weights, which is said; a run ends where none is left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from align.errors import RunError
from align.rollout.vllm.client import Refused
from align.rollout.vllm.engine import prefix_cache
from align.rollout.vllm.fleet import Address
from align.rollout.vllm.server import Server, Starting

MOST = 3  # times that a server is started anew in one life of a run


@dataclass
class Station:
    """A server's place: of one that is joined, or of one that `start` starts with the weights in a folder."""

    start: Callable[[Path], Starting] | None = None
    server: Server | None = None
    num_starts: int = 0

    @property
    def vacant(self) -> bool:
        """Whether one is to be started here."""
        if self.start is None or self.num_starts > MOST:
            return False
        return self.server is None or (self.server.process is not None and bool(self.server.process.ended()))

    def begin(self, weights: Path) -> Starting | None:
        """By the main thread: a server ends with the thread that has started it."""
        if not self.vacant or self.start is None:
            return None
        self.num_starts += 1
        return self.start(weights)


@dataclass
class Servers:
    stations: Sequence[Station]
    check: Callable[[Server], None]  # of a server that was just started
    say: Callable[[str], object]
    _counts: dict[str, tuple[float, float]] = field(default_factory=dict[str, tuple[float, float]])

    @property
    def up(self) -> list[Server]:
        return [station.server for station in self.stations if station.server is not None]

    def give(self, weights: Path, label: str) -> list[Address]:
        """Those that have the weights in `weights` now, labelled `label`. RunError where there are none."""
        known = {server.client.url for server in self.up}
        begun = [station.begin(weights) for station in self.stations]
        with ThreadPoolExecutor(len(begun)) as pool:
            failures = list(pool.map(lambda s, b: self._give(s, b, weights, label), self.stations, begun))
        reached = [s.server for s, failure in zip(self.stations, failures, strict=True) if not failure and s.server]
        for failure in filter(None, failures):
            if not reached:
                raise failure
            self.say(f"{failure}; the run goes on with the other servers")
        if not self._counts:  # a server that is joined has counted what others asked for
            self._counts = {url: count for url, count in self._read().items() if url in known}
        return [Address(server.client, server.model) for server in reached]

    def looked_up(self) -> tuple[float, float]:
        """Tokens of prompts that servers were asked for since this was read last, and those that they still knew."""
        before, self._counts = self._counts, self._read()
        changes = [(now, before.get(url, (0.0, 0.0))) for url, now in self._counts.items()]
        return sum(now[0] - then[0] for now, then in changes), sum(now[1] - then[1] for now, then in changes)

    def close(self) -> None:
        for server in self.up:
            server.close()

    def _give(self, station: Station, begun: Starting | None, weights: Path, label: str) -> RunError | None:
        try:
            if begun is not None:
                station.server = begun.up()
                self.check(station.server)
                station.server.label(label)
            elif station.server is not None:
                station.server.load_weights(weights, label)
        except Refused:
            raise
        except RunError as failure:
            if station.num_starts == 1 and begun is not None:  # what cannot be started at all is the user's to mend
                raise
            return failure
        return None

    def _read(self) -> dict[str, tuple[float, float]]:
        counts = ((server.client.url, prefix_cache(server.client)) for server in self.up)
        return {url: count for url, count in counts if count is not None}
