"""What may befall a job on two nodes of a real Slurm costs nothing: it goes back into the queue and ends bitwise as one
that nothing has disturbed. A mistake of its nodes is found before it trains, and is not tried again."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cluster_jobs import Submit, log_of, parent_of, rank_of, reached
from slurm_cluster import Cluster
from small_runs import lines, same, weights, write_rows

from align.cli.main import main

pytestmark = pytest.mark.processes
STEPS = 8
RUN = (
    "data.num_rows=60", "data.validation=0", "training.batch_size=4", f"training.max_steps={STEPS}",
    "training.save_steps=1",
)  # fmt: skip
QUICK = ("--patience", "10", "--grace", "10")  # seconds, where a cluster has minutes
SLOW = '''"""DPO whose steps take a second, or, in the first attempt of a job, many."""

import os
import time
from dataclasses import dataclass

import torch

from align.methods.dpo import DPO

last = 0.0


def wait(seconds):
    global last
    begun = os.path.isdir(f"{os.environ['ALIGN_RUN']}/checkpoints")
    if begun and torch.is_grad_enabled():
        time.sleep(max(0.0, last + seconds - time.monotonic()))
        last = time.monotonic()


@dataclass(frozen=True, kw_only=True)
class Slow(DPO):
    name = "slow"

    def loss(self, batch):
        wait(0 if "SLURM_RESTART_COUNT" in os.environ else 8)
        return super().loss(batch)


@dataclass(frozen=True, kw_only=True)
class Steady(DPO):
    name = "steady"

    def loss(self, batch):
        wait(1)
        return super().loss(batch)
'''  # fmt: skip


@pytest.fixture(scope="module")
def limited(cluster: Cluster, submit: Submit, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run that is longer than its limit; begun first, for its time passes while others train."""
    folder = tmp_path_factory.mktemp("limited")
    (folder / "slow_steps.py").write_text(SLOW)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        job = submit(folder / "run", "dpo", *RUN, "method.name=slow_steps:Slow", "--warning", "15")
    reached(folder / "run", 1)
    minutes, seconds = map(int, cluster.state(job)["RunTime"].split(":")[1:])
    cluster.ask("scontrol", "update", f"JobId={job}", f"TimeLimit={minutes + 1 + (seconds > 30)}")  # of whole minutes
    return folder / "run", job


@pytest.fixture(scope="module")
def undisturbed(
    submit: Submit, limited: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    """In a container, as far as the command line is concerned; it trains while others wait."""
    folder = tmp_path_factory.mktemp("whole")
    container = folder / "container"
    container.write_text(f'#!/bin/sh\necho "$SLURMD_NODENAME $1 $2" >>{folder}/started\nshift\nexec "$@"\n')
    container.chmod(0o755)
    return folder / "run", submit(folder / "run", "dpo", *RUN, "--container", f"{container} --nv")


def test_what_befalls_a_job_costs_nothing(
    cluster: Cluster, submit: Submit, undisturbed: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """A rank is killed, then a node's keeper of the step, then a rank is stopped."""
    out = tmp_path / "run"
    (tmp_path / "slow_steps.py").write_text(SLOW)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        job = submit(out, "dpo", *RUN, *QUICK, "method.name=slow_steps:Steady")

    def again(step: int) -> None:
        cluster.wait(job, "PENDING")
        cluster.wait(job, "RUNNING")
        reached(out, step)

    reached(out, 2)
    os.kill(rank_of(out, "1"), signal.SIGKILL)
    again(4)
    os.kill(parent_of(rank_of(out, "1")), signal.SIGKILL)
    again(6)
    os.kill(rank_of(out, "1"), signal.SIGSTOP)
    assert cluster.wait(job, "COMPLETED")["Restarts"] == "3"
    whole, other = undisturbed
    cluster.wait(other, "COMPLETED")
    assert same(weights(out), weights(whole))
    assert [row["step"] for row in lines(out / "metrics.jsonl")] == list(range(1, STEPS + 1))

    said = re.findall(r"align: (.*); back into the queue, after step-", log_of(out, job))
    assert said[0] == "srun: error: n2: task 1: Killed"
    assert len(said) == 3
    assert "in take_steps" in (out / f"launch/attempt-{job}.2/stacks-00000.txt").read_text()
    capsys.readouterr()
    assert main(["launch", "doctor", str(out)]) == 0
    told = capsys.readouterr().out
    assert f"job {job}: COMPLETED, attempt 4" in told
    assert re.search(rf"attempt-{job}\.0: rank 1 on n2: step \d+, .* when last heard of, ", told)
    assert re.search(rf"attempt-{job}\.1: rank 1 on n2: step \d+, .*ended: what has started this process is gone", told)
    assert re.search(rf"attempt-{job}\.2: rank 1 on n2: step \d+, .* when last heard of, .*killed or stopped", told)
    assert main(["launch", "logs", str(out), "--attempt", "2"]) == 0
    assert f"==== attempt 2 of job {job}" in capsys.readouterr().out


def test_what_stands_before_the_command_of_each_rank(cluster: Cluster, undisturbed: tuple[Path, str]):
    out, job = undisturbed
    cluster.wait(job, "COMPLETED")
    started = (out.parent / "started").read_text().splitlines()
    assert sorted(started) == [f"{node} --nv {sys.executable}" for node in ("n1", "n2")]
    assert "preflight: 2 ranks on 2 nodes, nothing wrong" in log_of(out, job)


def test_what_is_wrong_on_a_node_is_told_before_it_trains_and_not_tried_again(
    cluster: Cluster, submit: Submit, tmp_path: Path
):
    """The second node has an older package, a run folder of its own, and data that differ."""
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        pytest.skip("unshare --mount is not allowed here")
    out, shadow = tmp_path / "run", tmp_path / "shadow/accelerate-0.1.dist-info"
    shadow.mkdir(parents=True)
    (shadow / "METADATA").write_text("Metadata-Version: 2.1\nName: accelerate\nVersion: 0.1\n")
    pairs = [{"prompt": f"Say {word}.", "chosen": "Yes.", "rejected": "No."} for word in ("one", "two", "three")]
    rows, other = write_rows(tmp_path / "rows.jsonl", pairs), write_rows(tmp_path / "other.jsonl", pairs[:2])
    node = tmp_path / "node"
    node.write_text(f"""#!/bin/bash
if [ $SLURMD_NODENAME = n2 ] && [ -z "$APART" ]; then
    export APART=1 PYTHONPATH=$PYTHONPATH:{shadow.parent}
    cp -r {out}/launch {tmp_path}/its-own
    exec unshare --mount bash -c 'mount --bind {tmp_path}/its-own {out}/launch
        mount --bind {other} {rows}; exec "$@"' bash "$@"
fi
exec "$@"
""")
    node.chmod(0o755)
    words = ("data.columns={}", "data.validation=0", "training.max_steps=2", "training.batch_size=2")
    job = submit(out, "dpo", f"data.train={rows}", *words, "--container", str(node))
    found = cluster.wait(job, "FAILED")
    assert (found["ExitCode"], found["Restarts"]) == ("2:0", "0")
    said = log_of(out, job)
    assert "align (rank 0 on n1):\n" in said
    assert f"node n2: the run folder {out} is not shared" in said
    assert re.search(r"node n2: accelerate is 0\.1, on n1 \(rank 0\) it is 1\.", said)
    assert re.search(rf"node n2: data.train: {rows} has 1 files, \d+ bytes, on n1 \(rank 0\) {rows} has 1 ", said)
    assert not (out / "checkpoints").exists()


def test_a_time_limit(cluster: Cluster, undisturbed: tuple[Path, str], limited: tuple[Path, str]):
    out, job = limited
    assert int(cluster.wait(job, "COMPLETED")["Restarts"]) >= 1
    assert same(weights(out), weights(undisturbed[0]))
    said = log_of(out, job)
    assert "the time limit is near: the ranks are asked to save" in said
    assert "stopped before the time limit; back into the queue, after step-" in said
