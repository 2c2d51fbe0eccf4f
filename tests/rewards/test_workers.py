"""Worker processes: deaf to what a terminal or a scheduler sends to a whole run, and gone when their parent is."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from align.rewards import pool
from align.rewards.base import Sample
from align.rewards.settings import RewardSection
from align.rewards.verdicts import RewardFunctions, make_reward_functions

PATIENCE = 60.0  # seconds


def functions_of(function: str, timeout: float, num_workers: int = 1) -> RewardFunctions:
    return make_reward_functions(
        RewardSection(functions=[f"reward_functions:{function}"], timeout=timeout, num_workers=num_workers)
    )


def samples(*texts: str) -> list[Sample]:
    return [Sample(prompt="", completion=text, completion_ids=[1]) for text in texts]


def test_signals_to_every_process_of_a_run_change_no_verdict():
    """From the first instant on that a worker is there."""
    functions, over = functions_of("slow", timeout=20.0), threading.Event()

    def disturb() -> None:
        while not over.wait(0.005):
            for process in multiprocessing.active_children():
                with suppress(ProcessLookupError):
                    os.kill(process.pid or 0, signal.SIGTERM)
                    os.kill(process.pid or 0, signal.SIGINT)

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        found = functions(samples("a", "b"))
        (worker,) = functions.pools["slow"].workers
        assert os.getpgid(worker.process.pid) != os.getpgid(0), "what it starts does not hear them either"
    finally:
        over.set()
        thread.join()
        functions.close()
    assert [(j.rewards["slow"], j.failed) for j in found] == [(2.0, {})] * 2


def gone(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
@pytest.mark.parametrize("function", ["lasting", "unyielding"])
def test_a_worker_ends_with_its_parent(function: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Also one that is within a sample, and that lets no thread of its own look for the parent."""
    monkeypatch.setattr(pool, "GRACE", 0.5)
    told = tmp_path / "pid"
    parent = os.fork()
    if not parent:
        with suppress(BaseException):
            functions_of(function, timeout=0.5)(samples(str(told)))
        os._exit(0)
    limit = time.monotonic() + PATIENCE
    while not (told.exists() and told.read_text()):
        assert time.monotonic() < limit, "nothing was judged"
        time.sleep(0.002)
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    while not gone(int(told.read_text())):
        assert time.monotonic() < limit, "it lives on"
        time.sleep(0.01)
