"""REINFORCE++ by its definition."""

from __future__ import annotations

import dataclasses

import torch
from rollout_batches import gradient, on_policy, random_rollouts

from align.methods.reinforce_pp import ReinforcePP


def test_advantages_are_normalised_over_the_whole_batch():
    method = ReinforcePP()
    batch = method.advantages(random_rollouts(method))
    kept = batch.advantages[batch.completion.mask]
    assert kept.mean().abs() < 1e-9
    assert abs(kept.std(correction=0).item() - 1) < 1e-6


def test_without_kl_all_tokens_of_a_completion_share_its_reward():
    method = ReinforcePP(kl_coef=0.0)
    batch = method.advantages(random_rollouts(method))
    for row, kept in zip(batch.advantages, batch.completion.mask, strict=True):
        assert row[kept].max() - row[kept].min() < 1e-12
    order = batch.advantages[:, 0].argsort()
    assert torch.equal(order, batch.rewards.argsort())


def test_a_token_pays_for_the_kl_from_itself_on():
    """Charging one late token leaves the later ones alone and lowers all earlier ones alike, before normalisation."""
    method = ReinforcePP(kl_coef=1.0)
    batch = random_rollouts(method, size=2, width=4, rewards=torch.zeros(6, dtype=torch.float64))
    written = dataclasses.replace(
        batch.completion, mask=torch.ones_like(batch.completion.mask), ref_logps=batch.completion.old_logps.clone()
    )
    written.ref_logps[0, 2] -= 3.0
    found = method.advantages(dataclasses.replace(batch, completion=written)).advantages
    assert found[0, 0] == found[0, 1] == found[0, 2] < found[0, 3] == found[1, 0]


def test_on_policy_every_token_weighs_the_same():
    method = ReinforcePP()
    batch = on_policy(method.advantages(random_rollouts(method)))
    torch.testing.assert_close(gradient(method, batch), -batch.advantages / batch.completion.mask.sum())
