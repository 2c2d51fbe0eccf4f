"""One launch for each way of sharding, whichever worker of the suite asks first; the tests read what its runs left."""

from __future__ import annotations

import fcntl
import shutil
from pathlib import Path

import forked
import launches
import pytest
from launches import MODES, Launch, jobs_of

Root = Path
STARTS = {
    "none": forked.start, "ddp": launches.start, "zero1": forked.start, "zero2": forked.start, "zero3": launches.start,
}  # fmt: skip


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Root:
    """A folder that all workers share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if hasattr(request.config, "workerinput") else base


@pytest.fixture(scope="session")
def alone(root: Root) -> Launch:
    """All jobs in one process."""
    return once(root, "none")


@pytest.fixture(scope="session", params=MODES)
def launch(request: pytest.FixtureRequest, root: Root) -> Launch:
    """All jobs in two processes, sharded one way after the other. They replay what one process has written."""
    once(root, "none")
    return once(root, request.param)


@pytest.fixture
def mode(request: pytest.FixtureRequest) -> str:
    return request.node.callspec.params["launch"]


def once(root: Root, mode: str) -> Launch:
    """The launch, made by the first who asks; the others wait for it."""
    folder, done = root / f"launch-{mode}", root / f"launch-{mode}.done"
    with open(root / f"launch-{mode}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a launch that failed
            folder.mkdir()
            STARTS[mode](mode, folder, jobs_of(mode))
            done.touch()
    return Launch(folder, 1 if mode == "none" else 2)
