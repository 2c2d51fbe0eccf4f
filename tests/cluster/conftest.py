"""Two nodes of a real Slurm, and how a run is submitted to them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import slurm_cluster
from cluster_jobs import Submit
from slurm_cluster import Cluster
from small_runs import lines

from align.cli.main import main

SMALL = (
    "training.num_train_epochs=null", "data.test=0", "logging.num_completions=0", "training.save_total_limit=20",
    "training.eval_steps=0",
)  # fmt: skip


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    if missing := slurm_cluster.missing():
        pytest.skip(f"{', '.join(missing)} not installed (apt-get install slurm-wlm munge)")
    with tempfile.TemporaryDirectory(prefix="slurm-", dir="/tmp") as folder, slurm_cluster.running(Path(folder)) as one:
        yield one


@pytest.fixture(scope="module")
def submit(cluster: Cluster) -> Iterator[Submit]:
    """`align launch slurm` of a recipe, on two nodes with a rank each; the number of the job."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("SLURM_", "SBATCH_"))]:
            patch.delenv(name)
        patch.setenv("SLURM_CONF", cluster.environment["SLURM_CONF"])
        patch.setenv("OMP_NUM_THREADS", "1")

        def submitted(out: Path, recipe: str, *words: str) -> str:
            usual = {"--nodes": "2", "--time": "20"}
            told = [*words, *(word for pair in usual.items() if pair[0] not in words for word in pair)]
            assert main(["launch", "slurm", recipe, *SMALL, f"training.output_dir={out}", *told]) == 0
            return lines(out / "launch/jobs.jsonl")[-1]["job"]

        yield submitted
