"""What is wrong where the ranks of a job are to meet, on a real Slurm: it ends with 2 and is not tried again."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cluster_jobs import Submit, log_of
from slurm_cluster import Cluster

pytestmark = pytest.mark.processes
TAKEN = """#!/bin/bash
[ $RANK = 1 ] && exec "$@"
python -c '
import os, socket, time
with socket.create_server(("", int(os.environ["MASTER_PORT"]))):
    open("{sign}", "w").close()
    time.sleep(60)' &
OTHER=$!
until [ -e {sign} ]; do sleep 0.1; done
"$@"
CODE=$?
kill $OTHER
exit $CODE
"""
AWAY = """#!/bin/bash
[ $RANK = 1 ] && exec sleep 300
exec "$@"
"""


def test_a_port_that_is_taken_and_a_rank_that_does_not_arrive(cluster: Cluster, submit: Submit, tmp_path: Path):
    """Another program has the port by the time that rank 0 begins; on the second node a command hangs before it."""
    jobs: dict[str, str] = {}
    taken = TAKEN.format(sign=tmp_path / "sign")
    # the second rank may come late on a busy machine, and has its say; who never comes is waited for in vain
    for name, text, limit in (("taken", taken, "12"), ("away", AWAY, "3")):
        container = tmp_path / f"{name}.sh"
        container.write_text(text)
        container.chmod(0o755)
        words = ("training.max_steps=2", "data.validation=0", "--container", str(container), "--preflight", limit)
        jobs[name] = submit(tmp_path / name, "dpo", *words, "--grace", limit)
    for name, job in jobs.items():
        found = cluster.wait(job, "FAILED")
        assert (found["ExitCode"], found["Restarts"]) == ("2:0", "0"), log_of(tmp_path / name, job)
    said = log_of(tmp_path / "taken", jobs["taken"])
    assert re.search(r"rank 0 on n1: \S+:\d+, where the ranks were to meet, is in use by another program", said)
    assert re.search(r"rank 1 on n2: what answers at \S+:\d+ is not rank 0 of \d+\.0: ", said)
    assert "rank 1 on n2 has not arrived within 3 seconds" in log_of(tmp_path / "away", jobs["away"])
    assert not list(tmp_path.glob("*/checkpoints"))
