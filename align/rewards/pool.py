"""Reward functions in worker processes: a call that takes too long is given up, and its worker replaced.

A call has one sample, or all of a prompt's where the function compares them.

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
    """A process, the pipe to it, and the call that it is at."""

    process: Any
    pipe: Connection
    call: int = -1
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
        """One verdict for each sample, in order; each has a call of its own."""
        return [verdict for of_call in self.judge_together([[s] for s in samples]) for verdict in of_call]

    def judge_together(self, groups: Sequence[Sequence[Sample]]) -> list[list[Verdict]]:
        """One verdict for each sample of each group, in order; each group has a call."""
        found: list[list[Verdict]] = [[Verdict()] * len(group) for group in groups]
        waiting = list(reversed(range(len(groups))))
        while len(self.workers) < min(self.num_workers, len(groups)):
            self.workers.append(self._start())
        while waiting or any(w.call >= 0 for w in self.workers):
            for worker in list(self.workers):
                if worker.call < 0 and waiting:
                    number = waiting.pop()
                    self._give(worker, number, groups[number])
            for worker in self._ready():
                number = worker.call
                answer = self._answer(worker)
                found[number] = answer if isinstance(answer, list) else [answer] * len(groups[number])
            self._give_up(found)
        return found

    def close(self) -> None:
        for worker in self.workers:
            _end(worker)
        self.workers = []

    def _ready(self) -> list[Worker]:
        busy = {w.pipe: w for w in self.workers if w.call >= 0}
        left = min(self.timeout - (time.monotonic() - w.since) for w in busy.values())
        return [busy[pipe] for pipe in wait(list(busy), max(left, 0.0)) if isinstance(pipe, Connection)]

    def _give(self, worker: Worker, number: int, group: Sequence[Sample]) -> None:
        try:
            worker.pipe.send(group)
        except OSError:  # it has ended since its last sample, so this one is not to blame
            worker = self._replaced([worker])[0]
            try:
                worker.pipe.send(group)
            except OSError:
                raise RunError(f"reward {self.name}: its worker process ends before it is given a sample") from None
        worker.call, worker.since = number, time.monotonic()

    def _answer(self, worker: Worker) -> list[Verdict] | Verdict:
        """Verdicts, or the one that all samples of the call share."""
        number = worker.call
        try:
            answer = worker.pipe.recv()
        except (EOFError, OSError):  # the process is gone: the function took it along
            self._replaced([worker])
            return Verdict(error=f"the worker process ended while it judged sample {number}")
        worker.call = -1
        return answer

    def _give_up(self, found: list[list[Verdict]]) -> None:
        now = time.monotonic()
        busy = [w for w in self.workers if w.call >= 0]
        late = [w for w in busy if now - w.since > self.timeout and not w.pipe.poll()]  # an answer that is there counts
        for worker in late:
            found[worker.call] = [Verdict(late=True)] * len(found[worker.call])
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
