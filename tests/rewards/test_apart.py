"""No reward function knows of another, nor of when, where and beside what it is called: own inputs, own chance."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from align.rewards.base import Sample, find_reward
from align.rewards.settings import Function, RewardSection
from align.rewards.verdicts import RewardFunctions, make_reward_functions


@pytest.fixture
def functions_of(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    sys.modules.pop("reward_functions", None)
    made: list[RewardFunctions] = []

    def make(*names: str, cache: bool = False, **section: Any) -> RewardFunctions:
        functions: list[Any] = [Function(name=f"reward_functions:{n}", cache=cache) for n in names]
        made.append(make_reward_functions(RewardSection(functions=functions, **section)))
        return made[-1]

    yield make
    for each in made:
        each.close()


def message(role: str, text: str) -> list[dict[str, Any]]:
    return [{"role": role, "content": text}]


def samples() -> list[Sample]:
    """Two completions of one prompt, whose columns are the same objects, as they are in a run."""
    asked, columns = message("user", "123"), {"words": ["a", "b"]}
    return [
        Sample(prompt=asked, completion=message("assistant", text), completion_ids=[1] * 4, columns=columns)
        for text in ("12345", "123456")
    ]


def test_what_a_function_does_to_its_inputs_is_seen_by_nobody_else(functions_of: Any):
    functions, told = functions_of("spoiling", "spoiling"), samples()
    for _ in range(2):  # as an evaluation's rows come again and again
        assert [list(j.rewards.values()) for j in functions(told)] == [[14.0] * 2, [15.0] * 2]
    assert told == samples()


def test_one_by_one_they_are_as_they_were_when_all_at_once_has_failed(functions_of: Any):
    functions = functions_of("spoiling", on_error="mark")
    odd = Sample(prompt=message("user", "123"), completion=[], completion_ids=[1], columns={"words": ["a"]})
    assert [j.rewards["spoiling"] for j in functions([*samples(), odd])] == [14.0, 15.0, None]


def seeded_samples(*seeds: int) -> list[Sample]:
    return [Sample(prompt="p", completion="c", completion_ids=[1], seed=seed) for seed in seeds]


@pytest.mark.parametrize("name", ["dice", "async_dice"])
def test_what_is_drawn_follows_from_the_place_in_the_run_alone(name: str, functions_of: Any):
    told = seeded_samples(1, 2, 3)
    first = [j.rewards[name] for j in functions_of(name)(told)]
    random.seed(7)
    np.random.seed(7)
    assert [j.rewards[name] for j in functions_of(name)(told)] == first
    assert [j.rewards[name] for j in functions_of(name)(seeded_samples(4, 5, 6))] != first
    assert len(set(first)) == 3


def test_two_functions_draw_apart(functions_of: Any):
    assert len(set(functions_of("dice", "dice")(seeded_samples(1))[0].rewards.values())) == 2


def test_it_does_not_matter_which_worker_draws(functions_of: Any):
    told = seeded_samples(*range(6))
    made = (functions_of("dice", timeout=20.0, num_workers=n) for n in (1, 2))
    alone, among_two = ([j.rewards["dice"] for j in functions(told)] for functions in made)
    assert alone == among_two
    assert len(set(alone)) == 6


def test_what_is_drawn_when_a_function_is_made_is_the_same_in_every_process(functions_of: Any):
    made = [find_reward("reward_functions:Loaded", {}) for _ in range(2)]
    assert made[0].side == made[1].side
    functions = functions_of("Loaded", timeout=20.0, num_workers=2)
    assert {j.rewards["Loaded"] for j in functions(seeded_samples(1, 2, 3))} == {made[0].side}
