"""Ranks wait for the main one as long as a large data set takes."""

import os
import socket
import subprocess
import sys

SCRIPT = """
import torch
import torch.distributed as dist
from align.world.distributed import PATIENCE, join
world = join(1.0)
backend = dist.distributed_c10d._get_default_group()._get_backend(world.device)
assert backend.options._timeout == PATIENCE, backend.options._timeout
print(PATIENCE.total_seconds())
dist.destroy_process_group()
"""


def test_the_group_waits_for_hours():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "CUDA_VISIBLE_DEVICES": ""}
    ranks = [os.environ | place | {"RANK": rank, "LOCAL_RANK": rank} for rank in "01"]
    words = [sys.executable, "-c", SCRIPT]
    running = [subprocess.Popen(words, env=env, text=True, stdout=subprocess.PIPE) for env in ranks]
    assert all(float(process.communicate(timeout=120)[0]) >= 3600 for process in running)
