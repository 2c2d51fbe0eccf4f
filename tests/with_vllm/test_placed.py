"""A real vLLM on a node of its own, in a job of a real Slurm."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
import slurm_cluster
from cluster_jobs import log_of
from small_runs import lines, write_recipe
from with_vllm.conftest import COMMAND, EAGER
from with_vllm.test_runs import ROUNDING, STEPS, assert_whole, here, recipe_of

from align.cli.main import main

__all__ = ["here"]  # pytest's: a working folder with the reward's file


@pytest.mark.skipif(bool(slurm_cluster.missing()), reason="apt-get install slurm-wlm munge")
def test_a_job_writes_with_a_server_on_its_second_node(
    wide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    rollout = {"vllm_command": COMMAND, "vllm_arguments": [EAGER]}
    recipe, out = write_recipe(tmp_path / "placed.yaml", recipe_of(wide, rollout=rollout)), tmp_path / "placed"
    with tempfile.TemporaryDirectory(prefix="slurm-", dir="/tmp") as folder, slurm_cluster.running(Path(folder)) as one:
        for name in [name for name in os.environ if name.startswith(("SLURM_", "SBATCH_"))]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("SLURM_CONF", one.environment["SLURM_CONF"])
        words = ("--vllm-nodes", "1", "--time", "20")
        assert main(["launch", "slurm", str(recipe), f"training.output_dir={out}", *words]) == 0
        job = lines(out / "launch/jobs.jsonl")[-1]["job"]
        assert one.wait(job, "COMPLETED", "FAILED")["JobState"] == "COMPLETED", log_of(out, job)
    assert_whole(out, STEPS)
    told = (out / "launch" / f"servers-{job}.0" / "place-0.json").read_text()
    assert '"node": "n2"' in told
    print("gap", max(row["sampler_gap"] for row in lines(out / "metrics.jsonl")), "limit", ROUNDING)
