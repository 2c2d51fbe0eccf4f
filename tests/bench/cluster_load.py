"""Many small runs in the queue of a cluster on this machine, some killed on their way: whether all end as they should.

    make study-cluster    (python -m tests.bench.cluster_load [--runs N] [--kills K] [--at-once A] [--folder FOLDER])

An array of N runs of a very small model, each with a seed of its own, `A` at a time. Of K of them a rank is killed (-9)
after a checkpoint that is drawn at random, so that the job goes back into the queue. Those that were killed are made
once more in another folder, undisturbed. Counted is what must not be: runs that did not end, steps that a run made
twice or left out, and weights that differ from the undisturbed run's. It can be cut and begun again: runs that have
ended in FOLDER are not made again. The summary, a line for each time that it was begun, stands beside this file.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.bench.cases import REPOSITORY
from tests.helpers import slurm_cluster
from tests.helpers.slurm_cluster import Cluster

SUMMARY = Path(__file__).parent / "cluster_load.json"
STEPS = 4
RUN = (
    "data.num_rows=16", "data.validation=0", "data.test=0", "training.num_train_epochs=null", "training.eval_steps=0",
    f"training.max_steps={STEPS}", "training.batch_size=4", "training.save_steps=1", "training.save_total_limit=2",
    "training.load_best_model_at_end=false", "logging.num_completions=0",
)  # fmt: skip
JOB = ("--preflight", "0", "--time", "60", "--warning", "0")
WATCHED = 0.05  # seconds between two looks for a run to be killed
REST = 3.0  # seconds: what is begun within one of its requeue has no valid credential
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")


@dataclass
class Load:
    """Runs in a folder, by their seeds."""

    cluster: Cluster
    folder: Path
    seeds: tuple[int, ...]
    kills: dict[int, int] = field(default_factory=dict)  # seed -> the step whose checkpoint it may still write
    back: dict[str, float] = field(default_factory=dict)  # jobs in the queue again, and since when

    @cached_property
    def _noted(self) -> Path:
        return self.folder.with_suffix(".killed.jsonl")

    def run(self, at_once: int) -> None:
        """Until all have ended, one way or the other."""
        waiting = [seed for seed in self.seeds if not self.outcome(seed)]
        if not waiting:
            return
        job = self._submit(f"{','.join(map(str, waiting))}%{at_once}")
        while not self._over(job):
            for seed in self._due():
                self._kill(seed)
            time.sleep(WATCHED)

    def killed(self) -> dict[int, int]:
        """Seed -> after which step."""
        lines = self._noted.read_text(encoding="utf-8").splitlines() if self._noted.exists() else []
        return {line["seed"]: line["step"] for line in map(json.loads, lines)}

    def outcome(self, seed: int) -> bool:
        return (self.folder / f"seed-{seed}" / "report.html").exists()  # what a run writes last

    def steps(self, seed: int) -> list[int]:
        rows = (self.folder / f"seed-{seed}" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(row)["step"] for row in rows]

    def weights(self, seed: int) -> str:
        return hashlib.sha256((self.folder / f"seed-{seed}/final/model.safetensors").read_bytes()).hexdigest()

    def _submit(self, array: str) -> str:
        script = self.folder / "launch/job.sh"
        if script.exists():
            return self.cluster.ask("sbatch", "--parsable", f"--array={array}", str(script)).strip()
        words = ("launch", "slurm", "sft", *RUN, f"training.output_dir={self.folder}", *JOB, "--array", array)
        command = (sys.executable, "-m", "align", *words)
        done = subprocess.run(
            command, cwd=REPOSITORY, env=self.cluster.environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
        return json.loads((self.folder / "launch/jobs.jsonl").read_text(encoding="utf-8").splitlines()[-1])["job"]

    def _over(self, job: str) -> bool:
        """Whether no run is left. One that was put back begins after some seconds, not in two minutes."""
        asked = ("--noheader", "--array", "--format", "%i %T %r", "--states", "all", "--jobs", job)
        try:
            told = self.cluster.ask("squeue", *asked)
        except subprocess.TimeoutExpired:  # of a machine that has much else to do; it is asked again
            return False
        lines = [line.split(maxsplit=2) for line in told.splitlines()]
        for number, state, reason in lines:
            if state == "PENDING" and reason == "BeginTime":
                since = self.back.setdefault(number, time.monotonic())
                if time.monotonic() - since > REST:
                    self.cluster.ask("scontrol", "update", f"JobId={number}", "StartTime=now")
                    del self.back[number]
        return all(state in ENDED for _, state, _ in lines)

    def _due(self) -> Iterator[int]:
        done = self.killed()
        for seed, step in self.kills.items():
            place = self.folder / f"seed-{seed}"
            if seed not in done and (place / f"checkpoints/step-{step:06d}").exists() and not self.outcome(seed):
                yield seed

    def _kill(self, seed: int) -> None:
        """The rank of this run: of our own processes the one whose job says so."""
        for number in ranks_in(self.folder / f"seed-{seed}"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
                with self._noted.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"seed": seed, "step": self.kills[seed]}) + "\n")


def ranks_in(run: Path) -> Iterator[int]:
    """Processes of `align train` that a job has started for this run folder."""
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            with contextlib.suppress(OSError):
                known = (process / "environ").read_bytes().split(b"\0")
                words = (process / "cmdline").read_bytes().split(b"\0")
                if f"ALIGN_RUN={run}".encode() in known and b"train" in words and b"align" in words:
                    yield int(process.name)


def judge(load: Load, again: Load) -> dict[str, Any]:
    """What must not be, counted."""
    ended = [seed for seed in load.seeds if load.outcome(seed)]
    killed = load.killed()
    return {
        "runs": len(load.seeds), "killed": len(killed), "ended": len(ended), "lost": len(load.seeds) - len(ended),
        "steps_doubled_or_left_out": _count(load.steps(s) != list(range(1, STEPS + 1)) for s in ended),
        "compared": len(again.seeds),
        "differing": _count(load.weights(s) != again.weights(s) for s in again.seeds if s in ended),
        "different_results": len({load.weights(seed) for seed in ended}),
    }  # fmt: skip


def _count(found: Iterable[bool]) -> int:
    return sum(found)


def study(cluster: Cluster, folder: Path, runs: int, kills: int, at_once: int) -> dict[str, Any]:
    draw = random.Random(runs)
    chosen = {seed: draw.randint(1, STEPS - 1) for seed in draw.sample(range(runs), kills)}
    load = Load(cluster, folder / "runs", tuple(range(runs)), chosen)
    load.run(at_once)
    again = Load(cluster, folder / "undisturbed", tuple(sorted(load.killed())))
    again.run(at_once)
    return judge(load, again)


def main() -> None:
    parser = argparse.ArgumentParser(description="Many runs in a queue, some of them killed.")
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--at-once", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--folder", type=Path, default=REPOSITORY / "runs" / "study_cluster")
    given = parser.parse_args()
    if missing := slurm_cluster.missing():
        sys.exit(f"{', '.join(missing)}: not installed (apt-get install slurm-wlm munge)")
    began, again = time.monotonic(), given.folder.exists()
    place = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
    try:
        with slurm_cluster.running(place) as cluster:
            found = study(cluster, given.folder.absolute(), given.runs, given.kills, given.at_once)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    found |= {"at_once": given.at_once, "minutes": round((time.monotonic() - began) / 60, 1)}
    rounds = [*(json.loads(SUMMARY.read_text(encoding="utf-8")) if again and SUMMARY.exists() else []), found]
    SUMMARY.write_text("[\n " + ",\n ".join(map(json.dumps, rounds)) + "\n]\n", encoding="utf-8")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
