"""GRPO by the properties of its page."""

from __future__ import annotations

import dataclasses

import torch
from rollout_batches import gradient, on_policy, random_rollouts

from align.methods.base import of_completion
from align.methods.grpo import GRPO

PLAIN = GRPO(kl_coef=0.0)


def test_advantages_do_not_know_the_rewards_unit():
    batch = random_rollouts(PLAIN)
    other = dataclasses.replace(batch, rewards=7 * batch.rewards - 3)
    once, again = (of_completion(PLAIN.advantages(b)) for b in (batch, other))
    torch.testing.assert_close(once, again, rtol=1e-3, atol=1e-3)  # up to the 1e-4 beside the standard deviation
    assert once.view(3, 4).sum(1).abs().max() < 1e-9


def test_equal_rewards_leave_the_kl_alone():
    batch = PLAIN.advantages(random_rollouts(PLAIN, rewards=torch.ones(12, dtype=torch.float64)))
    assert gradient(PLAIN, batch).abs().max() == 0
    assert gradient(GRPO(kl_coef=0.1), batch).abs().max() > 0


def test_on_policy_a_completion_weighs_the_same_whatever_its_length():
    batch = on_policy(PLAIN.advantages(random_rollouts(PLAIN)))
    lengths = batch.completion.mask.sum(-1, keepdim=True)
    torch.testing.assert_close(gradient(PLAIN, batch), -batch.advantages / (lengths * len(batch)))


def test_the_kl_term_vanishes_at_the_reference():
    method = GRPO(kl_coef=1.0)
    batch = random_rollouts(method)
    written = batch.completion
    there = dataclasses.replace(written, ref_logps=written.logps.detach().clone())
    same = dataclasses.replace(batch, completion=there)
    torch.testing.assert_close(gradient(method, same), gradient(PLAIN, same))
