"""A server in a place of a job's: the run orders it through files, a keeper starts, watches and ends it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rollout.fake_vllm import COMMAND, settings

from align.errors import Lost, RunError
from align.rollout.vllm import placed
from align.rollout.vllm.client import Refused, ServerError
from align.rollout.vllm.keeper import Keeper, visible
from align.rollout.vllm.placed import Place, Word, fallen, places, start_in
from align.rollout.vllm.server import Process, surroundings


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Keeper]:
    """A keeper at work, in a thread."""
    keeper = Keeper(Place(tmp_path, 0), "127.0.0.1", surroundings(os.environ), Word(node="n2"))
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(0.05):
            keeper.look()
        if keeper.process:
            keeper.process.end()

    thread = threading.Thread(target=work)
    thread.start()
    yield keeper
    ended.set()
    thread.join()


def until(what: str, true: object, limit: float = 20.0) -> None:
    end = time.monotonic() + limit
    while not true():  # type: ignore[operator]
        assert time.monotonic() < end, what
        time.sleep(0.05)


def test_one_is_ordered_dies_and_is_ordered_anew(kept: Keeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(placed.GPUS, "4")
    given = settings(vllm_command=COMMAND, vllm_host="0.0.0.0", vllm_arguments=["--enforce-eager"])
    log = tmp_path / "server/vllm-1.log"
    first = start_in(kept.place, given, tmp_path, ("--dtype", "float32"), log).up()
    assert isinstance(kept.process, Process)
    words = Path(f"/proc/{kept.process.child.pid}/cmdline").read_bytes().decode().split("\0")
    assert words[-10:-2] == [
        "--dtype", "float32", "--tensor-parallel-size", "4", "--enforce-eager", "--host", "0.0.0.0", "--port",
    ]  # fmt: skip
    assert first.process is not None
    assert first.client.url == first.process.url == f"http://127.0.0.1:{words[-2]}"
    assert not first.process.ended()
    os.kill(kept.process.child.pid, signal.SIGKILL)
    until("its end is seen", first.process.ended)
    with pytest.raises(ServerError, match=r"ended by signal SIGKILL, and below is the end of .*\na line of the log"):
        first.client.get("/health")
    assert (tmp_path / "fallen").read_text() == "the server of this run on n2 ended by signal SIGKILL\n"

    second = start_in(kept.place, given, tmp_path, (), log).up()
    assert second.client.url != first.client.url
    assert not first.process.ended(), "of the one before nothing is known any more"
    second.close()
    with pytest.raises(ServerError, match="Connection refused"):
        second.client.get("/health")
    assert kept.process is None
    assert len((tmp_path / "fallen").read_text().splitlines()) == 1, "one that is ended has not fallen"


def test_one_that_cannot_be_started_is_told_with_its_log_and_a_keeper_that_is_not_there_by_the_time(
    kept: Keeper, tmp_path: Path
):
    given = settings(vllm_command=COMMAND, vllm_arguments=["--die"], vllm_server_timeout=1.5)
    with pytest.raises(RunError, match=r"rollout.vllm_command: .*exit code 1, .*\na line of the log\nno memory"):
        start_in(kept.place, given, tmp_path, (), tmp_path / "vllm-1.log").up()
    absent = start_in(Place(tmp_path, 7), given, tmp_path, (), tmp_path / "vllm-8.log")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(placed, "PATIENCE", 0.5)
        with pytest.raises(RunError, match=r"vllm_server_timeout: the server was not up within 1\.5 seconds"):
            absent.up()


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ({}, ["", ""]),
        ({"ALIGN_SERVER_GPUS": "2", "CUDA_VISIBLE_DEVICES": ""}, ["4,5", "6,7"]),
        ({"ALIGN_SERVER_GPUS": "2", "CUDA_VISIBLE_DEVICES": "a,b,c,d,e"}, ["b,c", "d,e"]),
    ],
)
def test_the_last_gpus_of_a_node_are_the_servers_evenly(told: dict[str, str], found: list[str]):
    known = {"ALIGN_GPUS": "8", "ALIGN_SERVERS_OF_NODE": "2", **told}
    assert [visible(known, local).get("CUDA_VISIBLE_DEVICES", "") for local in range(2)] == found


def test_only_in_a_job_that_has_placed_them_is_a_lost_server_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert places() == []
    assert type(fallen(ServerError("gone"))) is RunError
    monkeypatch.setenv(placed.FOLDER, str(tmp_path))
    monkeypatch.setenv(placed.COUNT, "2")
    assert places() == [Place(tmp_path, 0), Place(tmp_path, 1)]
    assert type(fallen(ServerError("gone"))) is Lost
    assert type(fallen(Refused("will not"))) is RunError
