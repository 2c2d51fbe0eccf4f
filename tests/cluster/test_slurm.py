"""Runs on two nodes of a real Slurm: a warning before the time limit and a rank that is killed cost nothing."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import slurm_cluster
from slurm_cluster import Cluster
from small_runs import lines, same, weights

from align.cli.main import main

pytestmark = pytest.mark.processes
STEPS = 8
RUN = (
    "data.num_rows=60", "training.num_train_epochs=null", "data.validation=0", "data.test=0", "training.eval_steps=0",
    "training.batch_size=4", f"training.max_steps={STEPS}", "training.save_steps=1", "logging.num_completions=0",
    "training.save_total_limit=20",
)  # fmt: skip


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    if missing := slurm_cluster.missing():
        pytest.skip(f"{', '.join(missing)} not installed (apt-get install slurm-wlm munge)")
    with tempfile.TemporaryDirectory(prefix="slurm-", dir="/tmp") as folder, slurm_cluster.running(Path(folder)) as one:
        yield one


@pytest.fixture(autouse=True)
def _submitting(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("SLURM_", "SBATCH_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SLURM_CONF", cluster.environment["SLURM_CONF"])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def submit(out: Path, recipe: str = "dpo", *words: str) -> str:
    told = ("--nodes", "2", "--time", "20", *words)
    assert main(["launch", "slurm", recipe, *RUN, f"training.output_dir={out}", *told]) == 0
    return lines(out / "launch/jobs.jsonl")[-1]["job"]


def reached(out: Path, step: int, limit: float = 120.0) -> None:
    """Until the checkpoint of this step is there."""
    end = time.monotonic() + limit
    while not (out / f"checkpoints/step-{step:06d}").exists():
        assert time.monotonic() < end, (out / "launch").glob("*.log")
        time.sleep(0.01)


@pytest.fixture(scope="module")
def undisturbed(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", cluster.environment["SLURM_CONF"])
        cluster.wait(submit(out), "COMPLETED")
    return out


def test_a_warning_before_the_time_limit_costs_nothing(cluster: Cluster, undisturbed: Path, tmp_path: Path):
    out = tmp_path / "run"
    job = submit(out)
    reached(out, 2)
    cluster.ask("scancel", "--signal=USR2", "--batch", job)  # as Slurm sends it to the batch shell ahead of the limit
    assert cluster.wait(job, "COMPLETED")["Restarts"] == "1"
    assert same(weights(out), weights(undisturbed))
    assert [row["step"] for row in lines(out / "metrics.jsonl")] == list(range(1, STEPS + 1))
    said = (out / f"launch/slurm-{job}.log").read_text()
    assert "the ranks are asked to save" in said
    assert "stopped before the time limit; back into the queue after step-" in said


def test_a_rank_that_is_killed_costs_what_came_after_the_last_checkpoint(
    cluster: Cluster, undisturbed: Path, tmp_path: Path
):
    out = tmp_path / "run"
    job = submit(out)
    reached(out, 2)
    os.kill(rank_of(out, "1"), signal.SIGKILL)
    assert cluster.wait(job, "COMPLETED")["Restarts"] == "1"
    assert same(weights(out), weights(undisturbed))
    assert "task 1: Killed; back into the queue after step-" in (out / f"launch/slurm-{job}.log").read_text()


def test_a_mistake_is_not_tried_again(cluster: Cluster, tmp_path: Path):
    out = tmp_path / "run"
    job = submit(out, "dpo", "--sbatch", "begin=now+4")
    (out / "launch/recipe.yaml").write_text("no recipe")  # before it has begun
    assert cluster.wait(job, "FAILED")["ExitCode"] == "2:0"


def rank_of(out: Path, rank: str) -> int:
    """The process of this rank of a run."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                known = (folder / "environ").read_bytes().split(b"\0")
                command = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if f"RANK={rank}".encode() in known and str(out / "launch/recipe.yaml").encode() in command:
                return int(folder.name)
    raise AssertionError(f"no rank {rank} of {out}")
