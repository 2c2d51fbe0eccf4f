"""PPO by the properties of its page, and A2C as the special case of it that arXiv:2205.09123 describes."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from rollout_batches import gradient, on_policy, random_rollouts
from torch import Tensor

from align.functional.advantages import final_rewards, gae
from align.functional.kl import adapted
from align.methods.ppo import PPO
from align.methods.spo import SPO


def test_on_policy_the_gradient_is_that_of_a2c():
    """One step, nothing clipped or normalised, lam 1: the policy gradient with returns less values, half the squared
    error of the values, both averaged over tokens. Whitening is undone by hand: it is the one thing PPO adds."""
    method = PPO(kl_coef=0.0, lam=1.0, value_clip=0.0, value_coef=0.5)
    batch = random_rollouts(method)
    written = batch.completion
    now = dataclasses.replace(written, values=written.old_values.clone().requires_grad_())
    batch = on_policy(dataclasses.replace(batch, completion=now))
    filled = method.advantages(batch)
    raw = gae(final_rewards(batch.rewards, written.mask), written.old_values, written.mask, 1.0, 1.0)
    filled = dataclasses.replace(filled, advantages=raw)
    loss = method.loss(filled)
    count = written.mask.sum()
    total = sum(
        t.weight * t.values.masked_fill(~written.mask, 0.0).sum() / count for t in loss.terms.values() if t.weight
    )
    grads = torch.autograd.grad(total, [filled.completion.logps, filled.completion.values])

    logps = written.old_logps.clone().requires_grad_()
    values = written.old_values.clone().requires_grad_()
    returns = batch.rewards[:, None].expand_as(values)  # gamma 1, the reward at the end
    errors = (returns - values).masked_fill(~written.mask, 0.0)
    a2c = (-(logps * errors.detach()).sum() + 0.5 * 0.5 * errors.square().sum()) / count
    wanted = torch.autograd.grad(a2c, [logps, values])
    torch.testing.assert_close(grads[0], wanted[0])
    torch.testing.assert_close(grads[1], wanted[1])


def test_without_values_and_kl_every_token_has_the_completions_reward():
    method = PPO(kl_coef=0.0, gamma=1.0, lam=1.0)
    batch = random_rollouts(method)
    blank = dataclasses.replace(batch.completion, old_values=torch.zeros_like(batch.completion.old_values))
    returns = method.advantages(dataclasses.replace(batch, completion=blank)).returns
    wanted = batch.rewards[:, None].expand_as(returns).masked_fill(~blank.mask, 0.0)
    torch.testing.assert_close(returns, wanted)


def test_a_constant_on_all_advantages_is_whitened_away():
    method = PPO(kl_coef=0.0)
    batch = random_rollouts(method)
    once = method.advantages(batch).advantages
    assert once[batch.completion.mask].mean().abs() < 1e-9
    assert abs(once[batch.completion.mask].std(correction=0).item() - 1) < 1e-6


def test_the_value_loss_alone_moves_the_values():
    method = PPO()
    batch = method.advantages(random_rollouts(method))
    assert gradient(dataclasses.replace(method, value_coef=0.0), batch).abs().sum() > 0
    found = torch.autograd.grad(
        method.loss(batch).terms["value"].values[batch.completion.mask].sum(), batch.completion.values
    )
    assert found[0].abs().sum() > 0


@pytest.mark.parametrize(("kl", "moved"), [(12.0, 1), (1.0, -1), (6.0, 0)])
def test_the_coefficient_is_steered_to_its_target(kl: float, moved: int):
    method = PPO(kl_coef=0.1, kl_target=6.0, kl_horizon=100.0)
    batch = random_rollouts(method, width=1)
    written = dataclasses.replace(batch.completion, ref_logps=batch.completion.old_logps - kl)
    found = method.controllers(dataclasses.replace(batch, completion=written))["kl_coef"]
    assert (found > 0.1 + 1e-9) - (found < 0.1 - 1e-9) == moved


def test_without_a_target_it_stays():
    method = PPO()
    assert method.controllers(random_rollouts(method)) == {}


def test_a_step_longer_than_the_horizon_does_not_turn_the_coefficients_sign():
    for share in (1.0, 2.0, 100.0):
        assert adapted(0.05, 0.0, 6.0, share) == pytest.approx(0.04)


def test_a_target_without_a_coefficient_to_steer_is_refused():
    with pytest.raises(ValueError, match=r"ppo.kl_target is 6.0; it must be 0 where kl_coef"):
        PPO(kl_coef=0.0, kl_target=6.0)


def test_the_clip_fraction_counts_what_the_dual_clip_takes():
    """A ratio of 5 and advantages of -1 everywhere: below dual_clip the gradient is whole, above it there is none."""
    batch = random_rollouts(PPO())
    written = batch.completion
    far = written.old_logps.detach() + math.log(5.0)
    batch = dataclasses.replace(
        batch, completion=dataclasses.replace(written, logps=far.requires_grad_()),
        advantages=-torch.ones_like(far), returns=torch.zeros_like(far),
    )  # fmt: skip
    for dual_clip, share in ((3.0, 1.0), (6.0, 0.0)):
        method = PPO(dual_clip=dual_clip, value_coef=0.0)
        assert method.loss(batch).terms["clip_fraction"].values[written.mask].mean().item() == share
        assert bool((gradient(method, batch) == 0).all()) == (share == 1.0)


@pytest.mark.parametrize("method", [PPO(), SPO()])
def test_values_are_not_held_near_the_old_ones_while_the_critic_learns_alone(method: PPO | SPO):
    """A critic that is far off goes all the way, not the clip's range: in its warm-up it learns what values are."""
    batch = random_rollouts(method)
    far = dataclasses.replace(batch.completion, values=(batch.completion.old_values + 1.0).requires_grad_())
    batch = dataclasses.replace(batch, completion=far, returns=batch.completion.old_values + 9.0)
    assert pulled(method.critic_alone(), batch).lt(0).equal(far.mask)
    assert method.value_clip > 0


def pulled(method: PPO | SPO, batch: Any) -> Tensor:
    """The gradient of the value loss."""
    return torch.autograd.grad(method.loss(batch).terms["value"].values.sum(), batch.completion.values)[0]
