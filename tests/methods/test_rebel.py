"""REBEL by the properties of its regression."""

from __future__ import annotations

import dataclasses

import method_batches as batches
import pytest
import torch
from rollout_batches import gradient, on_policy, random_rollouts

from align.methods.base import kl_charged, of_completion
from align.methods.rebel import REBEL
from align.methods.rloo import RLOO

METHOD = REBEL(eta=0.5)


def test_a_constant_on_a_prompt_changes_nothing():
    batch = random_rollouts(METHOD)
    shifted = dataclasses.replace(batch, rewards=batch.rewards + 8.0 * batch.groups)
    once, again = (METHOD.advantages(b) for b in (batch, shifted))
    torch.testing.assert_close(gradient(METHOD, again), gradient(METHOD, once))
    assert abs(batches.value(METHOD.loss(again)) - batches.value(METHOD.loss(once))) < 1e-12


def test_the_order_of_two_completions_changes_nothing():
    batch = METHOD.advantages(random_rollouts(METHOD, size=2))
    swapped = batch.select(torch.tensor([1, 0, 3, 2, 5, 4]))
    assert batches.value(METHOD.loss(swapped)) == batches.value(METHOD.loss(batch))
    assert torch.equal(METHOD.loss(swapped).terms["loss"].values, METHOD.loss(batch).terms["loss"].values)


def test_the_loss_is_zero_where_log_ratios_differ_by_eta_times_the_rewards_and_only_there():
    batch = METHOD.advantages(random_rollouts(METHOD))
    written, rewards = batch.completion, of_completion(batch)
    share = METHOD.eta * (rewards + 3.0 * batch.groups) / written.mask.sum(-1)  # any constant of a prompt will do
    for extra, zero in ((0.0, True), (1e-3, False)):
        logps = written.old_logps + share[:, None]
        logps[0, 0] += extra
        there = dataclasses.replace(batch, completion=dataclasses.replace(written, logps=logps))
        assert (batches.value(METHOD.loss(there)) < 1e-20) == zero


def test_on_policy_the_gradient_of_two_completions_is_that_of_leave_one_out():
    """Up to the size: -2 eta (R_1 - R_2) of each pair in place of -(R_1 - R_2) / 2."""
    other = RLOO(kl_coef=METHOD.kl_coef)
    batch = random_rollouts(METHOD, size=2)
    wanted = gradient(other, on_policy(other.advantages(batch)))
    torch.testing.assert_close(gradient(METHOD, on_policy(METHOD.advantages(batch))), 4 * METHOD.eta * wanted)


def test_on_policy_the_gradient_of_more_completions_is_so_too():
    other = RLOO(kl_coef=METHOD.kl_coef)
    batch = random_rollouts(METHOD, size=4)
    wanted = gradient(other, on_policy(other.advantages(batch)))
    torch.testing.assert_close(gradient(METHOD, on_policy(METHOD.advantages(batch))), 4 * METHOD.eta * wanted)


def test_a_smaller_step_of_a_larger_reward_is_the_same():
    batch = METHOD.advantages(random_rollouts(METHOD))
    larger = dataclasses.replace(batch, advantages=4 * batch.advantages)
    smaller = dataclasses.replace(METHOD, eta=METHOD.eta / 4)
    torch.testing.assert_close(gradient(smaller, larger), gradient(METHOD, batch))


def test_the_kl_is_of_the_policy_that_wrote():
    batch = random_rollouts(METHOD)
    torch.testing.assert_close(of_completion(METHOD.advantages(batch)), kl_charged(batch, METHOD.kl_coef))


def test_one_completion_alone_teaches_nothing():
    batch = METHOD.advantages(random_rollouts(METHOD))
    assert not gradient(METHOD, batch.select(torch.tensor([0, 4, 8]))).any()


def test_a_completion_without_a_partner_does_not_thin_the_mean():
    """Rows 4 to 7 are the second prompt's; of the third only one is left, as where the others are not judged."""
    method = METHOD
    batch = method.advantages(random_rollouts(method))
    pairs, more = (batch.select(torch.arange(count)) for count in (8, 9))
    assert batches.value(method.loss(more)) == pytest.approx(batches.value(method.loss(pairs)), rel=1e-12)
    once, again = (batches.sums(method.loss(b)) for b in (pairs, more))
    for n in ("residual",):
        assert (once[n][0] / once[n][1]).item() == pytest.approx((again[n][0] / again[n][1]).item(), rel=1e-12)
