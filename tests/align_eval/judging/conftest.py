"""A judge behind an endpoint, and pauses between two tries that are short."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from judging_server import JudgingServer, serving

from align.judges.served import endpoint as endpoints


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "BACK_OFF", 0.01)


@pytest.fixture
def server() -> Iterator[JudgingServer]:
    with serving() as started:
        yield started
