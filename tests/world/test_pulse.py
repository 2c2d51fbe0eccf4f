"""Processes of a run that live, end, are killed or stopped; and one that is only slow."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import torch.distributed as dist

from align.errors import RunError
from align.world.pulse import Pulse

REPOSITORY = Path(__file__).parents[2]


def rank(store: dist.Store, number: int, size: int = 2) -> Pulse:
    return Pulse(store, number, size, misses=3, grace=2)


def test_who_counts_lives_however_slow_the_rest_of_it_is():
    store = dist.HashStore()
    ranks = [rank(store, i, 3) for i in range(3)]
    assert not any(one.look() for _ in range(20) for one in ranks)


def test_a_silence_is_told_to_all():
    store = dist.HashStore()
    first, second, third = (rank(store, i, 3) for i in range(3))
    for one in (first, second, third):
        one.look()
    told = [first.look() for _ in range(4)]
    assert told[:3] == ["", "", ""]
    assert told[3].startswith("nothing has been heard of rank 1: it was killed or stopped")
    assert [third.look(), third.look()] == ["", told[3]]


def test_after_a_pause_of_all_nobody_is_missed():
    """Looks are counted: no clock has gone on meanwhile."""
    store = dist.HashStore()
    first, second = rank(store, 0), rank(store, 1)
    for _ in range(3):
        assert first.look() == second.look() == ""
    assert "time" not in vars(sys.modules["align.world.pulse"])


def test_one_that_has_done_its_part_is_not_missed_and_one_that_failed_ends_the_others():
    store = dist.HashStore()
    first, second = rank(store, 0), rank(store, 1)
    for one in (first, second):
        one.look()
    second.leave(None)
    assert not any(first.look() for _ in range(9))
    second.leave(RunError("no room on the disk"))
    assert [first.look(), first.look()] == ["", "rank 1 has ended: no room on the disk"]


def test_a_store_that_is_gone_is_a_silence():
    class Gone:
        def set(self, key: str, value: str) -> None:
            raise dist.DistNetworkError("Connection reset by peer")

    one = Pulse(Gone(), 0, 2, misses=2)
    assert [one.look(), one.look()] == ["", "the process that kept the others together is gone"]


PROGRAM = """
import time
import torch.distributed as dist
from align.world import pulse
dist.init_process_group("gloo")
rank = dist.get_rank()
with pulse.pulse(rank, 2, every=0.1, misses=10):
    if rank == 0:
        time.sleep(2)  # prepares data, for longer than a silence may last
    dist.barrier()
    print("together", flush=True)
    if rank == 1:
        time.sleep(60)
    dist.barrier()
"""


def test_a_stopped_process_ends_the_others_and_a_slow_one_does_not():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    env = os.environ | {"MASTER_ADDR": "localhost", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    env["PYTHONPATH"] = str(REPOSITORY)
    command, pipe = [sys.executable, "-c", PROGRAM], subprocess.PIPE
    ranks = [subprocess.Popen(command, env={**env, "RANK": r}, stdout=pipe, stderr=pipe, text=True) for r in "01"]
    try:
        assert ranks[1].stdout is not None
        assert ranks[1].stdout.readline() == "together\n"
        ranks[1].send_signal(signal.SIGSTOP)
        _, err = ranks[0].communicate(timeout=60)
        assert ranks[0].returncode == 1, err
        assert "align (rank 0): nothing has been heard of rank 1" in err
    finally:
        for one in ranks:
            one.kill()
            one.communicate()
