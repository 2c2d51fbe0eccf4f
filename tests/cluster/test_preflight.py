"""What is wrong before a job trains is found in time, with the node where it is so: ranks as threads, over real sockets
and files; a process of an earlier attempt is one."""

from __future__ import annotations

import dataclasses
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from align.cluster import card, preflight
from align.cluster.attempt import Attempt, Rank, attempt_of, rank_of
from align.cluster.preflight import fly
from align.errors import Elsewhere, Mistakes, UserError

Told = list[BaseException | None]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def attempt(tmp_path: Path) -> Attempt:
    return Attempt(name="7.1", run=tmp_path, num_ranks=2, gpus=0, nodes=("n1", "n2"), limit=20.0)


@pytest.fixture
def brief(attempt: Attempt) -> Attempt:
    """Of ranks that wait in vain; one that is busy may come too late for it."""
    return dataclasses.replace(attempt, limit=1.5)


@pytest.fixture(autouse=True)
def _no_collective(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of threads of one process there is none; tests/cluster/test_slurm.py has it."""
    monkeypatch.setattr(preflight, "_collective", lambda meeting: None)


def ranks(size: int = 2, port: int = 0) -> list[Rank]:
    port = port or free_port()
    return [
        Rank(number=i, size=size, local=0, of_node=1, host="127.0.0.1", port=port, node=f"n{i + 1}", keeps=i == 0)
        for i in range(size)
    ]


def flown(attempt: Attempt, who: list[Rank], recipe: Mapping[str, Any] | None = None) -> Told:
    """What each of them ends with. The store is kept until all have ended, as it is by a process."""
    ends: dict[int, BaseException | None] = {}
    kept: list[Any] = []

    def one(place: int, rank: Rank) -> None:
        try:
            kept.append(fly(attempt, rank, recipe or {}))
            ends[place] = None
        except BaseException as error:
            ends[place] = error

    threads = [threading.Thread(target=one, args=item) for item in enumerate(who)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return [ends[i] for i in range(len(who))]


def finding(told: Told) -> str:
    """Rank 0's, which alone tells it; the others end with its code."""
    assert isinstance(told[0], Mistakes), told
    assert all(isinstance(end, Elsewhere) and end.exit_code == 2 for end in told[1:]), told
    return str(told[0])


def test_where_nothing_is_wrong_nothing_is_said_or_left(attempt: Attempt, tmp_path: Path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text("{}")
    assert flown(attempt, ranks(), {"data": {"train": str(rows)}}) == [None, None]
    assert list((tmp_path / "launch").iterdir()) == []


def test_all_that_is_wrong_is_told_at_once(attempt: Attempt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The second rank's node has another torch, and an older copy of the data."""
    own, rows = card.card_of, tmp_path / "rows.jsonl"
    rows.write_text("{}")

    def told(attempt: Attempt, rank: Rank, recipe: Mapping[str, Any], token: Path) -> card.Card:
        found = own(attempt, rank, recipe, token)
        if not rank.number:
            return found
        theirs = {**found.versions, "torch": "1.0"}
        return dataclasses.replace(found, versions=theirs, paths={"data.train": [str(rows), 1, 1]}, token="")

    monkeypatch.setattr(preflight, "card_of", told)
    found = finding(flown(attempt, ranks(), {"data": {"train": str(rows)}}))
    assert f"node n2: the run folder {tmp_path} is not shared" in found
    assert f"node n2: torch is 1.0, on n1 (rank 0) it is {torch.__version__}" in found
    assert f"node n2: data.train: {rows} has 1 files, 1 bytes, on n1 (rank 0) {rows} has 1 files, 2 bytes" in found


def test_a_rank_that_never_arrives_is_named(brief: Attempt):
    three = dataclasses.replace(brief, num_ranks=3, nodes=("n1", "n2", "n3"))
    assert "rank 2 on n3 has not arrived within 2 seconds" in finding(flown(three, ranks(3)[:2]))


def test_a_rank_0_that_never_arrives_is_named_by_the_others(brief: Attempt):
    (end,) = flown(brief, ranks()[1:])
    assert isinstance(end, UserError)
    assert "rank 1 on n2: nobody answers at 127.0.0.1:" in str(end)
    assert "rank 0 on n1 has not arrived within 2 seconds" in str(end)


def test_another_world_size_than_was_asked_for(attempt: Attempt):
    found = finding(flown(dataclasses.replace(attempt, num_ranks=4), ranks()))
    assert "rank 1 on n2: world size 2, and 4 ranks were asked for" in found


def test_two_that_say_they_are_the_same_rank(attempt: Attempt):
    zero, one = ranks()
    told = flown(attempt, [zero, one, dataclasses.replace(one, node="n3")])
    assert sum("another process is rank 1, too" in str(end) for end in told) == 1


def test_a_gpu_that_is_not_there(attempt: Attempt):
    found = finding(flown(dataclasses.replace(attempt, gpus=2), [dataclasses.replace(r, local=1) for r in ranks()]))
    assert "rank 1 on n2: sees 0 GPUs, and would use number 1 of 2" in found


@pytest.mark.parametrize("stranger", ["silent", "another run's store", "one that says nothing"])
def test_a_port_that_is_a_strangers(brief: Attempt, stranger: str):
    with socket.socket() as taken:
        if stranger == "silent":
            taken.bind(("0.0.0.0", 0))
            taken.listen(8)
            port = taken.getsockname()[1]
        else:
            store = dist.TCPStore("127.0.0.1", 0, None, True, wait_for_workers=False)
            port = store.port
            if stranger == "another run's store":
                dist.PrefixStore("preflight", store).set("hello", '"6.0"')
        taken_by_rank_0, other = flown(brief, ranks(port=port))
        assert f"rank 0 on n1: 127.0.0.1:{port}, where the ranks were to meet, is in use" in str(taken_by_rank_0)
        assert f"rank 1 on n2: what answers at 127.0.0.1:{port} is not rank 0 of 7.1: " in str(other)
        assert isinstance(other, UserError)
        if stranger == "another run's store":
            assert "it is rank 0 of 6.0" in str(other)


def test_a_process_of_an_earlier_attempt(attempt: Attempt, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(card, "SLOW", 0.3)
    known = {**os.environ, "ALIGN_RUN": str(attempt.run), "RANK": "1"}
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    older = subprocess.Popen(command, env={**known, "ALIGN_ATTEMPT": "7.0"})
    of_this, of_another_run = (
        subprocess.Popen(command, env=env)
        for env in ({**known, "ALIGN_ATTEMPT": "7.1"}, {**known, "ALIGN_ATTEMPT": "7.0", "ALIGN_RUN": "/elsewhere"})
    )
    try:
        told = f"process {older.pid} of attempt 7.0 of this run is still alive; end it"  # both nodes are this machine
        assert finding(flown(attempt, ranks())).splitlines() == [f"node n1: {told}", f"node n2: {told}"]
        threading.Thread(target=lambda: (time.sleep(0.3), older.kill(), older.wait())).start()
        monkeypatch.setattr(card, "SLOW", 20.0)  # one that is about to end is waited for
        assert flown(attempt, ranks()) == [None, None]
    finally:
        for one in (older, of_this, of_another_run):
            one.kill()
            one.wait()


def test_a_run_folder_that_cannot_be_written(attempt: Attempt, tmp_path: Path):
    (tmp_path / "launch").write_text("a file")
    told = flown(dataclasses.replace(attempt, num_ranks=1), ranks(1))
    assert f"rank 0 on n1: the run folder {tmp_path} cannot be written: " in str(told[0])


def test_what_job_sh_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    assert attempt_of() is None
    told = {
        "ALIGN_ATTEMPT": "9.2", "ALIGN_RUN": str(tmp_path), "ALIGN_RANKS": "4", "ALIGN_GPUS": "2",
        "ALIGN_NODES": "a b", "ALIGN_PREFLIGHT": "60", "RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "20007", "SLURMD_NODENAME": "b",
    }  # fmt: skip
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    attempt, rank = attempt_of(), rank_of()
    assert attempt == Attempt(name="9.2", run=tmp_path, num_ranks=4, gpus=2, nodes=("a", "b"), limit=60)
    assert [attempt.node_of(i) for i in range(5)] == [" on a", " on a", " on b", " on b", ""]
    assert rank.name == "rank 3 on b"
    assert not rank.keeps
    monkeypatch.setenv("ALIGN_RANKS", "four")
    with pytest.raises(UserError, match="ALIGN_RANKS is 'four', and no number"):
        attempt_of()
    monkeypatch.setenv("ALIGN_PREFLIGHT", "0")  # not wanted
    assert attempt_of() is None
