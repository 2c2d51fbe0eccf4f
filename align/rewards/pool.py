"""Reward functions in worker processes: a sample that takes too long is given up, and its worker replaced.

A worker imports the function by its name; nothing of a model, a tokenizer or the trainer is sent to it.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

from align.errors import RunError, UserError
from align.rewards.base import Sample
from align.rewards.worker import SAFE_PATH, Task, Verdict, end, safe_path, unheard, work

START = 120.0  # seconds a worker may take to import what it needs
GRACE = 60.0  # seconds after its time is up that a sample may still be wanted: what is late is given up much sooner
LONG = 1e8  # seconds that count as for ever


@dataclass(eq=False)
class Worker:
    """A process, the pipe to it, and the sample that it is at."""

    process: Any
    pipe: Connection
    sample: int = -1
    since: float = 0.0


@dataclass
class Pool:
    """Workers for one reward function, started when the first sample comes, ended by `close`."""

    name: str
    settings: Mapping[str, Any]
    timeout: float
    num_workers: int
    place: int = 0  # of the function among those of the recipe
    workers: list[Worker] = field(default_factory=list)

    def judge(self, samples: Sequence[Sample]) -> list[Verdict]:
        """One verdict for each sample, in order."""
        found: list[Verdict] = [Verdict()] * len(samples)
        waiting = list(reversed(range(len(samples))))
        while len(self.workers) < min(self.num_workers, len(samples)):
            self.workers.append(self._start())
        while waiting or any(w.sample >= 0 for w in self.workers):
            for worker in list(self.workers):
                if worker.sample < 0 and waiting:
                    number = waiting.pop()
                    self._give(worker, number, samples[number])
            for worker in self._ready():
                sample = worker.sample
                found[sample] = self._answer(worker)
            self._give_up(found)
        return found

    def close(self) -> None:
        for worker in self.workers:
            _end(worker)
        self.workers = []

    def _ready(self) -> list[Worker]:
        busy = {w.pipe: w for w in self.workers if w.sample >= 0}
        left = min(self.timeout - (time.monotonic() - w.since) for w in busy.values())
        return [busy[pipe] for pipe in wait(list(busy), max(left, 0.0)) if isinstance(pipe, Connection)]

    def _give(self, worker: Worker, number: int, sample: Sample) -> None:
        try:
            worker.pipe.send(sample)
        except OSError:  # it has ended since its last sample, so this one is not to blame
            worker = self._replaced([worker])[0]
            try:
                worker.pipe.send(sample)
            except OSError:
                raise RunError(f"reward {self.name}: its worker process ends before it is given a sample") from None
        worker.sample, worker.since = number, time.monotonic()

    def _answer(self, worker: Worker) -> Verdict:
        sample = worker.sample
        try:
            answer = worker.pipe.recv()
        except (EOFError, OSError):  # the process is gone: the function took it along
            self._replaced([worker])
            return Verdict(error=f"the worker process ended while it judged sample {sample}")
        worker.sample = -1
        return answer

    def _give_up(self, found: list[Verdict]) -> None:
        now = time.monotonic()
        busy = [w for w in self.workers if w.sample >= 0]
        late = [w for w in busy if now - w.since > self.timeout and not w.pipe.poll()]  # an answer that is there counts
        for worker in late:
            found[worker.sample] = Verdict(late=True)
        self._replaced(late)

    def _replaced(self, gone: Sequence[Worker]) -> list[Worker]:
        """New workers in the places of others; the time that this takes counts against nobody's sample."""
        began = time.monotonic()
        for worker in gone:
            _end(worker)
        new: list[Worker] = []
        for worker in gone:
            new.append(self._start())
            self.workers[self.workers.index(worker)] = new[-1]
        for worker in self.workers:
            worker.since += time.monotonic() - began
        return new

    def _start(self) -> Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        safe = SAFE_PATH in os.environ
        task = Task(self.name, dict(self.settings), self.place, min(self.timeout, LONG) + GRACE, sys.path, safe)
        process = context.Process(target=work, args=(theirs, task), daemon=True)
        with safe_path(), unheard():
            process.start()
        theirs.close()
        worker = Worker(process, ours)
        if not ours.poll(START):
            _end(worker)
            raise RunError(f"reward {self.name}: its worker process did not start within {START:.0f} seconds")
        try:
            trouble = ours.recv()
        except (EOFError, OSError):
            _end(worker)
            raise RunError(f"reward {self.name}: its worker process ended while it imported the function") from None
        if trouble:
            raise UserError(trouble)
        return worker


def _end(worker: Worker) -> None:
    worker.pipe.close()
    end(worker.process)
