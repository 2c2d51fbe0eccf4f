"""A queue of small runs, one of them killed: all end, none twice, and none otherwise than an undisturbed run."""

from __future__ import annotations

from pathlib import Path

import pytest
from slurm_cluster import Cluster

from tests.bench.cluster_load import study

pytestmark = pytest.mark.processes


def test_runs_of_an_array_all_end_once_and_as_undisturbed_ones(cluster: Cluster, tmp_path: Path):
    found = study(cluster, tmp_path, runs=6, kills=1, at_once=2)
    assert (found["ended"], found["lost"], found["killed"], found["compared"]) == (6, 0, 1, 1)
    assert (found["steps_doubled_or_left_out"], found["differing"], found["different_results"]) == (0, 0, 6)
