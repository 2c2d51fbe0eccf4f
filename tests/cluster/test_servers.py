"""vLLM servers in places of a job's own, on a real Slurm: a server that writes stands for vLLM's."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest
from cluster_jobs import Submit, log_of, reached
from slurm_cluster import Cluster
from small_runs import lines
from speaking_server import COMMAND

pytestmark = pytest.mark.processes
STEPS = 4
RUN = (
    "rollout.engine=vllm", f"rollout.vllm_command={COMMAND}", "rollout.num_generations=2",
    "rollout.max_completion_length=8", "data.num_rows=40", "data.validation=0", "training.batch_size=4",
    f"training.max_steps={STEPS}", "training.save_steps=1",
)  # fmt: skip


def servers_of(out: Path) -> set[int]:
    """Processes that serve for it."""
    found = set[int]()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode().split("\0")
            told = dict(word.partition("=")[::2] for word in (folder / "environ").read_bytes().decode().split("\0"))
        except OSError:
            continue
        if "--served-model-name" in words and told.get("ALIGN_RUN") == str(out):
            found.add(int(folder.name))
    return found


def test_servers_that_die_on_their_node_cost_nothing(cluster: Cluster, submit: Submit, tmp_path: Path):
    """One of two is started again; when both die the job goes back into the queue."""
    out = tmp_path / "run"
    job = submit(out, "rloo", *RUN, "--nodes", "1", "--vllm-nodes", "1", "--vllm-servers-per-node", "2")
    reached(out, 1)
    os.kill(min(servers_of(out)), signal.SIGKILL)
    reached(out, 3)
    for process in servers_of(out):
        os.kill(process, signal.SIGKILL)
    cluster.wait(job, "PENDING")
    assert cluster.wait(job, "COMPLETED", "FAILED")["Restarts"] == "1", log_of(out, job)
    said = log_of(out, job)
    assert re.search(r"ended by signal SIGKILL[^;]*; (its requests are asked of|the run goes on with) the other", said)
    assert re.search(r"align: the server of this run on n2 ended by signal SIGKILL .*back into the queue, after", said)
    rows = lines(out / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    assert max(row["sampler_gap"] for row in rows) < 1e-4
    assert (out / "final/model.safetensors").exists()
    assert not servers_of(out)
