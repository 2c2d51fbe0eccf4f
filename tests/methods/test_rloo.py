"""RLOO by the properties of its page."""

from __future__ import annotations

import dataclasses
from itertools import product

import torch
from rollout_batches import gradient, on_policy, random_rollouts

from align.functional.advantages import group_means, leave_one_out
from align.methods.base import of_completion
from align.methods.rloo import RLOO

PLAIN = RLOO(kl_coef=0.0)


def test_advantages_sum_to_zero_in_every_group():
    batch = PLAIN.advantages(random_rollouts(PLAIN))
    assert of_completion(batch).view(3, 4).sum(1).abs().max() < 1e-12


def test_they_are_the_group_mean_scaled():
    batch = random_rollouts(PLAIN)
    centred = batch.rewards - group_means(batch.rewards, batch.groups)
    torch.testing.assert_close(of_completion(PLAIN.advantages(batch)), 4 / 3 * centred)


def test_a_constant_on_a_prompt_changes_nothing_and_a_factor_scales():
    batch = random_rollouts(PLAIN)
    shifted = dataclasses.replace(batch, rewards=3 * batch.rewards + 10.0 * batch.groups)
    once, again = (of_completion(PLAIN.advantages(b)) for b in (batch, shifted))
    torch.testing.assert_close(again, 3 * once)


def test_of_two_completions_one_gains_what_the_other_loses():
    batch = random_rollouts(PLAIN, size=2)
    found = of_completion(PLAIN.advantages(batch)).view(3, 2)
    torch.testing.assert_close(found[:, 0], batch.rewards.view(3, 2).diff(dim=1)[:, 0] * -1)
    torch.testing.assert_close(found[:, 0], -found[:, 1])


def test_on_policy_every_token_of_a_completion_pulls_with_its_advantage():
    batch = on_policy(PLAIN.advantages(random_rollouts(PLAIN)))
    torch.testing.assert_close(gradient(PLAIN, batch), -batch.advantages / len(batch))
    assert PLAIN.loss(batch).terms["clip_fraction"].values.sum() == 0


def test_the_kl_is_taken_off_before_the_baseline():
    method = RLOO(kl_coef=0.5)
    batch = random_rollouts(method)
    far = dataclasses.replace(batch.completion, ref_logps=batch.completion.old_logps)
    same = dataclasses.replace(batch, completion=far)
    torch.testing.assert_close(method.advantages(same).advantages, PLAIN.advantages(same).advantages)
    written = batch.completion
    kl = ((written.old_logps - written.ref_logps) * written.mask).sum(-1)
    wanted = leave_one_out(batch.rewards - 0.5 * kl, batch.groups)
    torch.testing.assert_close(of_completion(method.advantages(batch)), wanted)


def test_the_gradient_is_unbiased():
    """Over all pairs of completions of a softmax policy with three of them, the mean is the gradient of the expected
    reward; with the mean of the whole group as baseline it would be half of it."""
    logits = torch.tensor([0.3, -0.5, 1.1], dtype=torch.float64, requires_grad=True)
    rewards = torch.tensor([1.0, 4.0, 2.0], dtype=torch.float64)
    true = torch.autograd.grad((logits.softmax(0) * rewards).sum(), logits)[0]
    groups, estimate = torch.zeros(2, dtype=torch.long), torch.zeros(3, dtype=torch.float64)
    for pair in product(range(3), repeat=2):
        drawn = torch.tensor(pair)
        advantages = leave_one_out(rewards[drawn], groups)
        score = torch.autograd.grad((advantages * logits.log_softmax(0)[drawn]).mean(), logits)[0]
        estimate += logits.softmax(0).detach()[drawn].prod() * score
    torch.testing.assert_close(estimate, true)
