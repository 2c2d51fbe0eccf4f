"""A draw depends on seed and place alone, and follows its distribution."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from align.rollout.draws import draw, filtered, uniforms
from align.rollout.engine import Sampling

PROBS = torch.tensor([[0.4, 0.3, 0.2, 0.1], [0.05, 0.05, 0.05, 0.85]])


def sampling(**more: float) -> Sampling:
    return Sampling(max_completion_length=8, stop_token_ids=(1,), **more)  # type: ignore[arg-type]


def test_uniform_numbers_depend_on_seed_and_place_and_on_nothing_else():
    seeds, places = np.arange(50, dtype=np.uint64), np.arange(50)
    whole = uniforms(seeds, places)
    alone = [uniforms(seeds[i : i + 1], places[i : i + 1])[0] for i in (7, 33)]
    assert alone == [whole[7], whole[33]]
    assert len(set(whole.tolist())) == 50


@pytest.mark.parametrize("axis", ["seeds", "places"])
def test_uniform_numbers_are_even_and_neighbours_are_unrelated(axis: str):
    count = 20_000
    steps = np.arange(count)
    seeds = steps.astype(np.uint64) if axis == "seeds" else np.full(count, 3, dtype=np.uint64)
    found = uniforms(seeds, steps if axis == "places" else np.full(count, 3))
    assert found.min() >= 0
    assert found.max() < 1
    counts = np.histogram(found, bins=20, range=(0, 1))[0]
    chi_square = ((counts - count / 20) ** 2 / (count / 20)).sum()
    assert chi_square < 43.8  # 19 degrees of freedom, one in a thousand
    assert abs(np.corrcoef(found[1:], found[:-1])[0, 1]) < 4 / count**0.5


def test_draws_follow_the_distribution():
    count = 20_000
    numbers = uniforms(np.arange(count, dtype=np.uint64), np.zeros(count, dtype=np.int64))
    found = draw(PROBS[:1].log().expand(count, 4), torch.from_numpy(numbers), sampling())
    expected = PROBS[0] * count
    assert ((found.bincount(minlength=4) - expected) ** 2 / expected).sum() < 16.3  # 3 degrees, one in a thousand


def test_a_token_of_probability_0_is_never_drawn():
    logps = torch.tensor([[float("-inf"), 0.0, float("-inf")]]).expand(3, 3)
    assert draw(logps, torch.tensor([0.0, 0.5, 1 - 2**-53], dtype=torch.float64), sampling()).tolist() == [1, 1, 1]


def test_temperature_0_takes_the_likeliest():
    chosen = draw(PROBS.log(), torch.tensor([0.99, 0.0], dtype=torch.float64), sampling(temperature=0.0))
    assert chosen.tolist() == [0, 3]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({}, [4, 4]),
        ({"top_k": 2}, [2, 2]),
        ({"top_p": 0.7}, [2, 1]),  # 0.4 + 0.3 reach it
        ({"top_p": 0.71}, [3, 1]),
        ({"min_p": 0.5}, [3, 1]),  # at least half of 0.4, of 0.85
        ({"top_k": 3, "min_p": 0.6, "top_p": 0.5}, [1, 1]),  # 0.4 of the remaining 0.7 is more than half
    ],
)
def test_what_is_left_out(given: dict[str, float], kept: list[int]):
    left = filtered(PROBS.double(), sampling(**given))
    assert (left > 0).sum(-1).tolist() == kept
    assert torch.equal(left[left > 0], PROBS.double()[left > 0])
