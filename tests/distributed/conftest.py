"""One launch for each way of sharding; the tests read what its runs left behind."""

from __future__ import annotations

import pytest
from launches import JOBS, MODES, Launch, jobs_of, start


@pytest.fixture(scope="session")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Launch:
    """All jobs in one process."""
    return start("none", tmp_path_factory.mktemp("alone"), JOBS)


@pytest.fixture(scope="session", params=MODES)
def launch(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Launch:
    """All jobs in two processes, sharded one way after the other."""
    return start(request.param, tmp_path_factory.mktemp(request.param), jobs_of(request.param))


@pytest.fixture
def mode(request: pytest.FixtureRequest) -> str:
    return request.node.callspec.params["launch"]
