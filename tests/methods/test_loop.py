"""LOOP by the properties of its page."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from rollout_batches import gradient, random_rollouts

from align.methods.loop import LOOP


@pytest.mark.parametrize(("ratio", "clipped"), [(1.09, False), (1.11, True), (0.92, False), (0.9, True)])
def test_the_interval_is_even_in_the_logarithm(ratio: float, clipped: bool):
    """[1 / 1.1, 1.1]: 0.9 lies outside, which [0.9, 1.1] would let through."""
    method = LOOP(clip_range=0.1)
    batch = random_rollouts(method, size=2, width=1)
    advantage = torch.full_like(batch.advantages, 1.0 if ratio > 1 else -1.0)
    moved = batch.completion.old_logps + torch.tensor(ratio, dtype=torch.float64).log()
    completion = dataclasses.replace(batch.completion, logps=moved.detach().requires_grad_())
    batch = dataclasses.replace(batch, completion=completion, advantages=advantage)
    assert bool((gradient(method, batch) == 0).all()) == clipped


def test_a_large_range_does_not_clip():
    method = LOOP(clip_range=1e6)
    assert method.loss(method.advantages(random_rollouts(method))).terms["clip_fraction"].values.sum() == 0


def test_weak_completions_are_left_out():
    method = LOOP(smallest_advantage=0.5)
    rewards = torch.tensor([0.0, 0.1, 0.0, 0.1] + [0.0, 9.0, 0.0, 0.0] + [1.0] * 4, dtype=torch.float64)
    batch = method.advantages(random_rollouts(method, rewards=rewards))
    assert method.keep(batch).tolist() == [False] * 4 + [True] * 4 + [False] * 4


def test_the_ratio_of_a_completion_is_the_product_of_its_tokens():
    method = LOOP(ratio_of="completion", clip_range=10.0)
    batch = method.advantages(random_rollouts(method))
    ratio = ((batch.completion.logps - batch.completion.old_logps) * batch.completion.mask).sum(-1).exp()
    wanted = -(ratio[:, None] * batch.advantages) / len(batch)
    torch.testing.assert_close(gradient(method, batch), wanted.detach().masked_fill(~batch.completion.mask, 0.0))
