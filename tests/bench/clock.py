"""How long a step took."""

from __future__ import annotations

import statistics
import time

import torch

Seconds = tuple[
    float, float
]  # by the clock on the wall; of all threads on a core, their waiting for each other included


class Clock:
    """Starts when it is made; waits for the device at both ends."""

    def __init__(self, device: torch.device):
        self.cuda = device.type == "cuda"
        self.started = self._now()

    def read(self) -> Seconds:
        now = self._now()
        return now[0] - self.started[0], now[1] - self.started[1]

    def _now(self) -> Seconds:
        if self.cuda:
            torch.cuda.synchronize()
        return time.perf_counter(), time.process_time()


class Parts:
    """Where the time of steps went: generate, score, train."""

    def __init__(self) -> None:
        self.now: dict[str, float] = {}
        self.steps: list[dict[str, float]] = []

    def add(self, name: str, seconds: float) -> None:
        self.now[name] = self.now.get(name, 0.0) + seconds

    def rest(self, name: str, whole: float) -> None:
        """Ends a step that took `whole`: what no part has claimed is this one's."""
        self.add(name, whole - sum(self.now.values()))
        self.steps.append(self.now)
        self.now = {}

    def medians(self) -> dict[str, float]:
        """Of all steps but the first, which warms up."""
        return {name: statistics.median(s[name] for s in self.steps[1:]) for name in self.steps[-1]}
