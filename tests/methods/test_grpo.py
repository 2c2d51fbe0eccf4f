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


def test_times_the_ratio_the_kl_term_has_the_gradient_of_the_kl():
    """Every token of a vocabulary as often as the policy of before writes it; the policy is another one by now."""
    old, logits = torch.tensor([2.0, 3.0, 3.0, 4.0]).double() / 12, torch.tensor([0.3, -0.8, 0.5, 0.1]).double()
    tokens, reference = torch.tensor([0] * 2 + [1] * 3 + [2] * 3 + [3] * 4), torch.tensor([0.1, 0.4, 0.2, 0.3]).double()
    logits.requires_grad_()
    logps = logits.log_softmax(0)
    (wanted,) = torch.autograd.grad((logps.exp() * (logps - reference.log())).sum(), logits, retain_graph=True)

    def found(method: GRPO) -> torch.Tensor:
        batch = random_rollouts(method, rewards=torch.ones(12).double())
        before = old.log()[tokens][:, None]
        completion = dataclasses.replace(
            batch.completion, mask=torch.ones(12, 1, dtype=torch.bool), logps=logps[tokens][:, None], old_logps=before,
            sampler_logps=before, ref_logps=reference.log()[tokens][:, None], entropies=torch.zeros_like(before),
        )  # fmt: skip
        batch = dataclasses.replace(batch, completion=completion, advantages=torch.zeros_like(before))
        term = method.loss(batch).terms["loss"]
        return torch.autograd.grad(term.values.mean(), logits, retain_graph=True)[0]

    torch.testing.assert_close(found(GRPO(kl_coef=1.0, unbiased_kl=True)), wanted)
    assert (found(GRPO(kl_coef=1.0)) - wanted).abs().max() > 0.05
