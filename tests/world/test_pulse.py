"""Processes of a run that live, end, are killed or stopped; one that is only slow; and one that does not get on."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist

from align.errors import Lost, RunError, UserError
from align.world import pulse
from align.world.heartbeat import Heartbeat, read_beats
from align.world.pulse import VARIABLE, Beat, Pulse, patience_of
from align.world.stages import doing, moved, standing

REPOSITORY = Path(__file__).parents[2]


def rank(store: dist.Store, number: int, size: int = 2) -> Pulse:
    return Pulse(store, number, size, misses=3, grace=2)


def test_who_counts_lives_however_slow_the_rest_of_it_is():
    store = dist.HashStore()
    ranks = [rank(store, i, 3) for i in range(3)]
    assert not any(one.look() for _ in range(20) for one in ranks)


def test_a_silence_is_told_to_all_and_who_keeps_the_store_goes_last():
    store = dist.HashStore()
    first, second, third = (rank(store, i, 3) for i in range(3))
    for one in (first, second, third):
        one.look()
    told = [first.look() for _ in range(6)]
    assert told[:5] == [""] * 5  # from the fourth on it knows, and has time to say where it stands
    assert told[5].startswith("nothing has been heard of rank 1 on ")
    assert [third.look(), third.look()] == ["", told[5]]


def test_nobody_is_missed_and_nobody_gets_on():
    store = dist.HashStore()
    ranks = [Pulse(store, i, 3, grace=1, patience=4) for i in range(3)]
    with doing("learning", 7):
        told = [[one.look() for one in ranks] for _ in range(6)]
    found = next(text for row in told for text in row if text)
    assert found.startswith("no rank has got on: rank 0 on ")
    assert found.endswith(": step 7, learning")


def test_who_gets_on_however_slowly_is_waited_for():
    store = dist.HashStore()
    ranks = [Pulse(store, i, 2, grace=1, patience=4) for i in range(2)]
    for _ in range(5):
        assert not any(one.look() for _ in range(3) for one in ranks)
        moved()  # a micro-batch is done
    with doing("preparing data"):
        assert not any(one.look() for _ in range(20) for one in ranks)


def test_a_stage_that_fails_stays_to_say_where():
    with doing("learning", 3):
        with pytest.raises(RunError), doing("rewarding"):
            raise RunError("no")
        assert standing().text == "step 3, rewarding"


@pytest.mark.parametrize("told", ["soon", "0", "nan", "inf"])
def test_a_patience_that_is_none_is_refused(told: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(VARIABLE, told)
    with pytest.raises(UserError, match=f"ALIGN_PATIENCE: '{told}', expected seconds"):
        patience_of()


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
    assert [first.look() for _ in range(3)] == ["", "", "rank 1 has ended: no room on the disk"]


def test_a_store_that_is_gone_is_a_silence():
    class Gone:
        def set(self, key: str, value: str) -> None:
            raise dist.DistNetworkError("Connection reset by peer")

    one = Pulse(Gone(), 0, 2, misses=2)
    assert [one.look(), one.look()] == ["", "the process that kept the others together is gone"]


def test_a_store_that_is_gone_before_the_run_begins_is_not_waited_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pulse, "ANSWERED", timedelta(seconds=1))
    hours = timedelta(hours=9)
    kept = dist.TCPStore("127.0.0.1", 0, None, True, wait_for_workers=False)
    common: Any = dist.PrefixStore("of all", dist.TCPStore("127.0.0.1", kept.port, None, False, timeout=hours))
    store = pulse.own(common)
    store.set("a", "b")
    assert (store.timeout, common.timeout, common.get("a")) == (hours, hours, b"b")
    del kept
    with pytest.raises(Lost, match="the process that kept the others together is gone"):
        pulse.own(common)


@pytest.mark.parametrize("told", [1, 2], ids=["as soon as a loss is known", "after one more look has ended"])
def test_stacks_are_written_once_however_fast_looks_are(told: int, tmp_path: Path):
    one, stacks = rank(dist.HashStore(), 0), tmp_path / "stacks-00000.txt"
    beat = Beat(one)
    beat.keep(Heartbeat(tmp_path, 0, 5.0))
    try:
        assert stacks.read_text() == ""
        one.told = told
        beat.once()
        assert "in test_stacks_are_written_once" in (written := stacks.read_text())
        beat.once()
        assert stacks.read_text() == written
    finally:
        beat.last(None)


PROGRAM = """
import ctypes, os, sys, time
from pathlib import Path
import torch.distributed as dist
from align.world import heartbeat, pulse
from align.world.stages import doing
dist.init_process_group("gloo")
rank = dist.get_rank()
with pulse.pulse(rank, 2, every=0.2, misses=10) as beat:
    beat.keep(heartbeat.Heartbeat(Path(sys.argv[1]), rank, 0.2))
    if rank == 0:
        time.sleep(3)  # prepares data, for longer than a silence may last
    dist.barrier()
    print("together", flush=True)
    if rank == 1:
        with doing("rewarding", 3):
            ctypes.PyDLL(None).sleep(60) if "HOLDING" in os.environ else time.sleep(60)
    dist.barrier()
"""


def two(folder: Path, **more: str) -> list[subprocess.Popen[str]]:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    env = os.environ | {"MASTER_ADDR": "localhost", "MASTER_PORT": port, "WORLD_SIZE": "2"} | more
    env["PYTHONPATH"] = str(REPOSITORY)
    command, pipe = [sys.executable, "-c", PROGRAM, str(folder)], subprocess.PIPE
    return [subprocess.Popen(command, env={**env, "RANK": r}, stdout=pipe, stderr=pipe, text=True) for r in "01"]


def test_where_one_is_stuck_all_end_with_their_stacks(tmp_path: Path):
    ranks = two(tmp_path, ALIGN_PATIENCE="3")
    try:
        told = [one.communicate(timeout=60)[1] for one in ranks]
        assert Lost.exit_code in [one.returncode for one in ranks], told
        assert any("no rank has got on: " in err and ": step 3, rewarding" in err for err in told), told
        for rank, place in enumerate(("in barrier", "in <module>")):
            assert place in (tmp_path / f"stacks-{rank:05d}.txt").read_text()
    finally:
        for one in ranks:
            one.kill()
            one.communicate()


def test_a_call_that_holds_python_leaves_its_stack_too(tmp_path: Path):
    ranks = two(tmp_path, HOLDING="1")
    try:
        _, err = ranks[0].communicate(timeout=60)
        assert ranks[0].returncode == Lost.exit_code, err
        assert "nothing has been heard of rank 1 on " in err
        assert ", line 17 in <module>" in (tmp_path / "stacks-00001.txt").read_text()
    finally:
        for one in ranks:
            one.kill()
            one.communicate()


@pytest.mark.parametrize("stopped", [0, 1], ids=["who keeps the store", "another"])
def test_a_stopped_process_ends_the_others_and_a_slow_one_does_not(stopped: int, tmp_path: Path):
    ranks = two(tmp_path)
    try:
        for one in ranks:
            assert one.stdout is not None
            assert one.stdout.readline() == "together\n"
        ranks[stopped].send_signal(signal.SIGSTOP)
        other = 1 - stopped
        _, err = ranks[other].communicate(timeout=60)
        assert ranks[other].returncode == Lost.exit_code, err
        assert ("nothing has been heard of rank 1 on " if stopped else "rank 0 at localhost does not answer") in err
        assert 'File "<string>"' in (tmp_path / f"stacks-{other:05d}.txt").read_text()
        beats = read_beats(tmp_path)
        assert beats[other].ended in err
        assert beats[stopped].ended == ""
    finally:
        for one in ranks:
            one.kill()
            one.communicate()
