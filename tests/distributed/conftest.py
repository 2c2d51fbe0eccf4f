"""One launch for each way of sharding; the tests read what its runs left behind."""

from __future__ import annotations

import pytest
from launches import JOBS, MODES, Launch, jobs_of, start


@pytest.fixture(scope="session")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Launch:
    """All jobs in one process."""
    return start("none", tmp_path_factory.mktemp("alone"), JOBS)


@pytest.fixture(scope="session")
def started() -> dict[str, Launch]:
    """By mode: pytest may tear a fixture with parameters down and ask for it again, and each takes a minute."""
    return {}


@pytest.fixture(scope="session", params=MODES)
def launch(
    request: pytest.FixtureRequest, started: dict[str, Launch], tmp_path_factory: pytest.TempPathFactory
) -> Launch:
    """All jobs in two processes, sharded one way after the other."""
    mode = request.param
    if mode not in started:
        started[mode] = start(mode, tmp_path_factory.mktemp(mode), jobs_of(mode))
    return started[mode]


@pytest.fixture
def mode(request: pytest.FixtureRequest) -> str:
    return request.node.callspec.params["launch"]
