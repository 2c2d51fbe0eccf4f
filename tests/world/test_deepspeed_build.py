"""The lock of an extension's build: waited for, and taken away where nobody else ever will."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from align.world.deepspeed_build import STALE, await_build


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    path = tmp_path / "py311_cpu" / "deepspeed_shm_comm" / "lock"
    path.parent.mkdir(parents=True)
    return path


def test_nothing_is_waited_for_where_nobody_builds(lock: Path):
    said: list[str] = []
    await_build(said.append)
    assert said == []


def test_another_process_is_waited_for(lock: Path):
    lock.touch()
    said: list[str] = []
    threading.Timer(0.2, lock.unlink).start()
    await_build(said.append, pause=0.01)
    assert not lock.exists()
    assert len(said) == 1
    assert str(lock) in said[0]


def test_a_lock_that_was_left_behind_is_removed_aloud(lock: Path):
    lock.touch()
    os.utime(lock, (time.time() - 2 * STALE,) * 2)
    said: list[str] = []
    await_build(said.append)
    assert not lock.exists()
    assert said == [f"{lock}: left by a process that was killed while it built DeepSpeed's extension; removed"]
