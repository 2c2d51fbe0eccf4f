"""Runs the cases: equality first, then time with the sides taking turns, then memory in fresh processes.

Time: one process per side and option set lives through a case; they are asked for one step each in turn, A B A B, so
that whatever else the machine does meets all alike. The median of the steps counts. Memory: a process that has done
nothing else runs two steps; the peak is its high-water mark less what it held before the first, so gradients and
optimiser state are in it, weights are not.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.bench.cases import REPOSITORY, Case, write_model
from tests.bench.worker import MARK

THREADS = 2
PLAIN: dict[str, Any] = {"bf16": False, "gradient_checkpointing": False}  # fp32, nothing recomputed
DEFAULT, WHOLE, SPLIT = "default", "whole batch", "micro-batches of "  # what labels begin with
PADDING_FREE = PLAIN | {"padding_free": True}
# What TRL 1.16 offers on a CPU; its other switches need a GPU (liger, flash attention), or say in a warning that they
# are off (padding_free of DPO).
TUNED: dict[str, dict[str, dict[str, Any]]] = {
    "dpo": {WHOLE: PLAIN, SPLIT + "2": PLAIN | {"micro": 2}, SPLIT + "1": PLAIN | {"micro": 1}},
    "reward": {WHOLE: PLAIN, SPLIT + "2": PLAIN | {"micro": 2}},
    "sft": {
        WHOLE: PLAIN,
        WHOLE + ", padding_free": PADDING_FREE,
        SPLIT + "4": PLAIN | {"micro": 4},
        SPLIT + "2": PLAIN | {"micro": 2},
        SPLIT + "2, padding_free": PADDING_FREE | {"micro": 2},
    },
    "grpo": {WHOLE: PLAIN, SPLIT + "16": PLAIN | {"micro": 16}, SPLIT + "8": PLAIN | {"micro": 8}},
    "generate": {WHOLE: PLAIN, WHOLE + ", static cache": PLAIN | {"cache_implementation": "static"}},
}


@dataclass(frozen=True, kw_only=True)
class Contest:
    """The options of each side, and how far their log-probabilities may be apart."""

    ours: Mapping[str, Any] = field(default_factory=dict)
    default: Mapping[str, Any] = field(default_factory=dict)
    tuned: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=lambda: TUNED)
    per_token: float = 1e-5
    per_sequence: float = 1e-4
    learned: float = 1e-4  # loss and gradient norm, where the policy writes


ON_CPU = Contest()


@dataclass
class Measured:
    """One side of a case with one set of options."""

    side: str
    label: str
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)  # of all threads
    memory: float = 0.0  # MiB above the baseline
    parts: dict[str, float] = field(default_factory=dict)  # seconds of generate, score, train, where the policy writes
    notes: list[str] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def spread(self) -> tuple[float, float]:
        """The quartiles."""
        cuts = statistics.quantiles(self.seconds, n=4) if len(self.seconds) > 1 else [self.median] * 3
        return cuts[0], cuts[2]


@dataclass
class Outcome:
    """All that was found of a case."""

    case: Case
    ours: Measured
    trl_default: Measured
    trl_tuned: list[Measured]
    per_token: float
    per_sequence: float
    load: tuple[float, float]  # of the machine, before and after

    @property
    def tuned(self) -> Measured:
        """TRL's fastest option set that takes the batch as it is given."""
        return min((m for m in self.trl_tuned if m.label.startswith(WHOLE)), key=lambda m: m.median)

    @property
    def split(self) -> Measured:
        """TRL's fastest division of the batch by gradient accumulation; `tuned` where there is nothing to divide."""
        divided = [m for m in self.trl_tuned if m.label.startswith(SPLIT)]
        return min(divided, key=lambda m: m.median) if divided else self.tuned


class Worker:
    """A process of `tests.bench.worker`."""

    def __init__(self, side: str, case: Case, folder: Path, options: Mapping[str, Any], log: Path):
        threads = {"OMP_NUM_THREADS": str(THREADS), "MKL_NUM_THREADS": str(THREADS)}
        quiet = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "DS_ACCELERATOR": "cpu"}
        command = [sys.executable, "-m", "tests.bench.worker", side, case.name, str(folder), json.dumps(dict(options))]
        self.log = log
        self.notes: list[str] = []
        self.process = subprocess.Popen(
            command, cwd=REPOSITORY, env=os.environ | threads | quiet, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log.open("w"),
        )  # fmt: skip

    def read(self) -> Any:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(MARK):
                return json.loads(line.removeprefix(MARK))
        raise RuntimeError(f"{self.process.args}: ended; {self.log.read_text()[-2000:]}")

    def ask(self, what: str) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        return self.read()

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=120)


@contextmanager
def workers(case: Case, folder: Path, wanted: Sequence[tuple[str, Mapping[str, Any]]]) -> Iterator[list[Worker]]:
    """Ready: all have loaded before any is asked for a step."""
    found: list[Worker] = []
    try:
        for side, options in wanted:
            found.append(Worker(side, case, folder, options, folder / f"{uuid4().hex}.log"))
        for worker in found:
            worker.notes = worker.read()
        yield found
    finally:
        for worker in found:
            worker.close()


def measure(case: Case, repetitions: int, contest: Contest = ON_CPU) -> Outcome:
    """Equality, time and memory of one case. Raises AssertionError where the sides do not compute the same."""
    before = load()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_model(folder, case)
        sides = [Measured("ours", "auto"), Measured("trl", DEFAULT)]
        options = [contest.ours, contest.default]
        for label, chosen in contest.tuned[case.kind].items():
            sides.append(Measured("trl", label))
            options.append(chosen)
        wanted = [(m.side, o) for m, o in zip(sides, options, strict=True)]
        with workers(case, folder, wanted) as running:
            gaps = compare(running[0], running[2], contest)
            if case.online:
                compare_online(case, running[0], running[2], contest)
            sides[0].notes = running[0].notes
            time_in_turns(running, sides, min(case.num_steps, repetitions))
            if case.online:
                for worker, measured in zip(running, sides, strict=True):
                    measured.parts = worker.ask("parts")
        outcome = Outcome(case, sides[0], sides[1], sides[2:], *gaps, (before, load()))
        shown = [id(m) for m in (outcome.ours, outcome.trl_default, outcome.tuned, outcome.split)]
        sides_shown = [(m, *w) for m, w in zip(sides, wanted, strict=True) if id(m) in shown]
        with ThreadPoolExecutor(THREADS) as pool:
            peaks = pool.map(lambda w: peak_memory(case, folder, *w[1:]), sides_shown)
            for (measured, _, _), peak in zip(sides_shown, peaks, strict=True):
                measured.memory = peak
    return outcome


def compare(ours: Worker, trl: Worker, contest: Contest) -> tuple[float, float]:
    """Asserts that both sides have the same tokens and the same log-probabilities; the largest differences."""
    assert ours.ask("tokens") == trl.ask("tokens"), "the two sides have different tokens"
    mine, theirs = ours.ask("columns"), trl.ask("columns")
    assert [len(a) for a in mine] == [len(b) for b in theirs], "the two sides score different tokens"
    per_token = max(abs(x - y) for a, b in zip(mine, theirs, strict=True) for x, y in zip(a, b, strict=True))
    per_sequence = max(abs(sum(a) - sum(b)) for a, b in zip(mine, theirs, strict=True))
    assert per_token <= contest.per_token, f"a log-probability differs by {per_token:.2g}"
    assert per_sequence <= contest.per_sequence, f"a sum differs by {per_sequence:.2g}"
    return per_token, per_sequence


def compare_online(case: Case, ours: Worker, trl: Worker, contest: Contest) -> None:
    """Asserts that both sides write the same greedily and as much as the case says otherwise, and that they learn the
    same from given completions and their rewards."""
    whole = [case.completion] * case.batch_size * case.group_size
    assert ours.ask("lengths") == whole == trl.ask("lengths"), "a completion is shorter than the case says"
    assert ours.ask("greedy") == trl.ask("greedy"), "the two sides write different completions"
    mine, theirs = ours.ask("learn"), trl.ask("learn")
    for name, a, b in zip(("loss", "gradient norm"), mine, theirs, strict=True):
        assert abs(a - b) <= contest.learned, f"the {name} differs by {abs(a - b):.2g}"


def time_in_turns(running: Sequence[Worker], sides: Sequence[Measured], repetitions: int) -> None:
    """One step of each to warm up, then one of each in turn. Who is far behind is asked less often."""
    first = [worker.ask("step")[0] for worker in running]
    best = min(first[2:])
    for turn in range(repetitions):
        for worker, measured, warm in zip(running, sides, first, strict=True):
            enough = 3 if measured.label.startswith(WHOLE) else 1
            if measured.side == "ours" or warm < 1.3 * best or turn < enough:
                wall, cpu = worker.ask("step")
                measured.seconds.append(wall)
                measured.cpu_seconds.append(cpu)


def peak_memory(case: Case, folder: Path, side: str, options: Mapping[str, Any]) -> float:
    with workers(case, folder, [(side, options)]) as (worker,):
        worker.ask("baseline")
        worker.ask("step")
        worker.ask("step")
        return worker.ask("peak")


def load() -> float:
    return os.getloadavg()[0]


def run(cases: Sequence[Case], repetitions: int) -> Iterator[Outcome]:
    """One after the other, each yielded as soon as it is known."""
    for case in cases:
        started = time.perf_counter()
        outcome = measure(case, repetitions)
        print(f"{line(outcome)}   ({time.perf_counter() - started:.0f} s)", flush=True)
        yield outcome


def line(o: Outcome) -> str:
    """A case on one line of the terminal."""
    ours = o.ours
    theirs = "; ".join(f"{m.label} {m.median:.2f} s {m.memory:.0f} MiB" for m in (o.trl_default, *o.trl_tuned))
    return (
        f"{o.case.name:22} ours {ours.median:.2f} s {ours.memory:.0f} MiB ({'; '.join(ours.notes)})   TRL: {theirs}   "
        f"{o.tuned.median / ours.median:.2f}x, split {o.split.median / ours.median:.2f}x   load {o.load[1]:.1f}"
    )
