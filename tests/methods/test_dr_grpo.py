"""Dr. GRPO by the properties of its page."""

from __future__ import annotations

import torch
from rollout_batches import gradient, on_policy, random_rollouts

from align.methods.base import of_completion
from align.methods.dr_grpo import DrGRPO
from align.methods.rloo import RLOO


def test_on_policy_the_divisor_is_constant():
    method = DrGRPO(constant_length=10)
    batch = on_policy(method.advantages(random_rollouts(method)))
    torch.testing.assert_close(gradient(method, batch), -batch.advantages / (10 * len(batch)))


def test_up_to_the_constant_it_is_rloo_less_one_part_in_the_group():
    """Its gradient is (G - 1) / G of RLOO's, over the constant length."""
    dr, rloo = DrGRPO(constant_length=10), RLOO(kl_coef=0.0)
    ours = gradient(dr, on_policy(dr.advantages(random_rollouts(dr))))
    theirs = gradient(rloo, on_policy(rloo.advantages(random_rollouts(rloo))))
    torch.testing.assert_close(ours, theirs * 3 / 4 / 10)


def test_rewards_keep_their_unit():
    method = DrGRPO()
    batch = random_rollouts(method)
    once = of_completion(method.advantages(batch))
    import dataclasses

    twice = of_completion(method.advantages(dataclasses.replace(batch, rewards=2 * batch.rewards)))
    torch.testing.assert_close(twice, 2 * once)
