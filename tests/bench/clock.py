"""How long a step took."""

from __future__ import annotations

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
