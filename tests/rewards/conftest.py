"""Reward functions of a file beside the tests, closed after each of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from align.rewards.settings import Function, RewardSection
from align.rewards.verdicts import RewardFunctions, make_reward_functions


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    sys.modules.pop("reward_functions", None)


@pytest.fixture
def functions_of() -> Iterator[Any]:
    made: list[RewardFunctions] = []

    def make(*functions: str | Function, **section: Any) -> RewardFunctions:
        named = [f"reward_functions:{f}" if isinstance(f, str) else f for f in functions]
        made.append(make_reward_functions(RewardSection(functions=named, **section)))
        return made[-1]

    yield make
    for each in made:
        each.close()
