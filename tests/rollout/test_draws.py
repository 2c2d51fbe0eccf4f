"""A draw depends on seed and place alone, and follows its distribution."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from align.rollout.draws import SIDE, draw, filtered, uniforms
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
    found = draw(PROBS[:1].expand(count, 4), torch.from_numpy(numbers), sampling())
    expected = PROBS[0] * count
    assert ((found.bincount(minlength=4) - expected) ** 2 / expected).sum() < 16.3  # 3 degrees, one in a thousand


def test_a_token_of_probability_0_is_never_drawn():
    probs = torch.tensor([[0.0, 1.0, 0.0]]).expand(3, 3)
    assert draw(probs, torch.tensor([0.0, 0.5, 1 - 2**-53], dtype=torch.float64), sampling()).tolist() == [1, 1, 1]


@pytest.mark.parametrize("vocab_size", [SIDE - 1, 3 * SIDE, 3 * SIDE + 5])
def test_blocks_of_a_vocabulary_are_passed_as_one(vocab_size: int):
    count, drawn = 2000, np.random.default_rng(1)
    logps = torch.from_numpy(drawn.normal(0, 3, (count, vocab_size))).float()
    logps[:, ::3] = -torch.inf
    if vocab_size > SIDE:
        logps[::2, -SIDE:] = -torch.inf  # a block without a token
    numbers = np.array([0.0, 1 - 2**-53, *drawn.random(count - 2)])
    found = draw(logps.softmax(-1), torch.from_numpy(numbers), sampling()).numpy()
    probs = logps.softmax(-1).double().numpy()
    after = probs.cumsum(1) / probs.sum(1, keepdims=True)
    places = np.arange(count), found
    assert (probs[places] > 0).all()
    assert (numbers <= after[places] + 1e-7).all()
    assert (numbers >= (after - probs)[places] - 1e-7).all()


def test_what_is_not_a_number_is_drawn_all_the_same():
    chosen = draw(torch.full((2, 3 * SIDE), torch.nan), torch.tensor([0.1, 0.9], dtype=torch.float64), sampling())
    assert (chosen < 3 * SIDE).all()


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
