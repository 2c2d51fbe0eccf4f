"""REINFORCE by the properties of its page."""

from __future__ import annotations

import dataclasses

import torch
from rollout_batches import gradient, random_rollouts

from align.methods.base import of_completion
from align.methods.reinforce import Reinforce

PLAIN = Reinforce(kl_coef=0.0)


def test_the_first_experience_has_no_baseline_and_the_next_the_mean_of_all_before():
    first = random_rollouts(PLAIN, seed=1)
    torch.testing.assert_close(of_completion(PLAIN.advantages(first)), first.rewards)
    later = dataclasses.replace(PLAIN, **PLAIN.controllers(first))
    second = random_rollouts(later, seed=2)
    torch.testing.assert_close(of_completion(later.advantages(second)), second.rewards - first.rewards.mean())
    third = dataclasses.replace(later, **later.controllers(second))
    assert third.num_rewards == 24
    mean = torch.cat([first.rewards, second.rewards]).mean().item()
    assert abs(third.reward_sum / third.num_rewards - mean) < 1e-12


def test_the_gradient_is_the_advantage_on_every_token_summed():
    batch = PLAIN.advantages(random_rollouts(PLAIN))
    torch.testing.assert_close(gradient(PLAIN, batch), -batch.advantages / len(batch))
