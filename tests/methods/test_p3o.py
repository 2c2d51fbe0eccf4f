"""P3O by the properties of its gradient."""

from __future__ import annotations

import dataclasses
from typing import Any

import method_batches as batches
import pytest
import torch
from rollout_batches import gradient, on_policy, random_rollouts
from torch import Tensor

from align.functional.masked import masked_sum
from align.methods.p3o import P3O
from align.methods.rloo import RLOO

both = pytest.mark.parametrize("clip", ["joint", "separate"])
every = pytest.mark.parametrize("clip", ["joint", "separate", "token"])
FREE = {"clip_range": 1e9, "max_weight": 1e9}  # nothing is clipped, no weight is bounded


def halves(values: Tensor) -> tuple[Tensor, Tensor]:
    """Of the first, and of the second completion of each prompt."""
    first, second = values.view(-1, 2).unbind(1)
    return first, second


def with_rewards(batch: Any, gains: list[float]) -> Any:
    """Three prompts of two completions each, the second of which earns nothing."""
    return dataclasses.replace(batch, rewards=torch.tensor([[g, 0.0] for g in gains], dtype=torch.float64).flatten())


@every
def test_a_constant_on_a_prompt_changes_nothing(clip: Any):
    """To the last bit where rewards and constants are multiples of a power of two, and there is no KL."""
    method = P3O(clip=clip, kl_coef=0.0)
    batch = random_rollouts(method)
    exact = dataclasses.replace(batch, rewards=(8 * batch.rewards).round() / 8)
    shifted = dataclasses.replace(exact, rewards=exact.rewards + 16.0 * exact.groups)
    assert torch.equal(gradient(method, shifted), gradient(method, exact))
    assert batches.value(method.loss(shifted)) == batches.value(method.loss(exact))


@both
def test_on_policy_the_gradient_of_two_completions_is_that_of_leave_one_out(clip: Any):
    method, other = P3O(clip=clip, kl_coef=0.0), RLOO(kl_coef=0.0)
    batch = on_policy(random_rollouts(method, size=2))
    torch.testing.assert_close(gradient(method, batch), gradient(other, other.advantages(batch)))


@both
def test_unclipped_it_is_the_weighted_gradient_of_the_difference(clip: Any):
    method = P3O(clip=clip, kl_coef=0.1, **FREE)
    batch = random_rollouts(method, size=2)
    written = batch.completion
    logps = written.logps.detach().clone().requires_grad_()
    apart = masked_sum(logps - written.ref_logps, written.mask)
    first, second = halves(apart)
    better, worse = halves(batch.rewards - 0.1 * apart.detach())
    weights = halves(masked_sum(written.logps.detach() - written.old_logps, written.mask).exp())
    pairs = -(better - worse) * weights[0] * weights[1] * (first - second) / 2
    torch.testing.assert_close(gradient(method, batch), torch.autograd.grad(pairs.mean(), logps)[0])


@both
def test_the_reference_is_in_the_gain_alone(clip: Any):
    """What is charged for being far from it is taken off the rewards by hand; then any other reference does as well."""
    method = P3O(clip=clip, kl_coef=0.1)
    batch = random_rollouts(method)
    written = batch.completion
    apart = masked_sum(written.logps.detach() - written.ref_logps, written.mask)
    charged = dataclasses.replace(batch, rewards=batch.rewards - 0.1 * apart)
    far = dataclasses.replace(written, ref_logps=written.ref_logps - torch.rand_like(written.ref_logps))
    elsewhere = dataclasses.replace(charged, completion=far)
    free = dataclasses.replace(method, kl_coef=0.0)
    torch.testing.assert_close(gradient(free, elsewhere), gradient(method, batch))
    assert not torch.allclose(gradient(method, dataclasses.replace(batch, completion=far)), gradient(method, batch))


@both
def test_the_policy_that_trades_reward_for_distance_stays(clip: Any):
    """Where log-ratios to the reference differ by the rewards over kl_coef."""
    method = P3O(clip=clip, kl_coef=0.5)
    batch = random_rollouts(method)
    written = batch.completion
    share = batch.rewards / 0.5 / written.mask.sum(-1)
    there = dataclasses.replace(written, logps=(written.ref_logps + share[:, None]).requires_grad_())
    assert gradient(method, dataclasses.replace(batch, completion=there)).abs().max() < 1e-10


def test_the_joint_clip_takes_the_gradient_of_a_pair_that_went_too_far():
    """The first pair went too far in the direction that its gain favours, the second in the other one, the third stayed
    in the range."""
    method = P3O(kl_coef=0.0, clip_range=0.2)
    batch = with_rewards(random_rollouts(method, size=2), [1.0, -1.0, 1.0])
    written = batch.completion
    steps = torch.tensor([0.5, 0.0, 0.5, 0.0, 0.1, 0.0], dtype=torch.float64) / written.mask.sum(-1)
    now = dataclasses.replace(written, logps=(written.old_logps + steps[:, None]).requires_grad_())
    moved = dataclasses.replace(batch, completion=now)
    assert method.loss(moved).terms["clip_fraction"].values.tolist() == [1, 1, 0, 0, 0, 0]
    found = (gradient(method, moved) != 0).any(-1)
    assert found.tolist() == [False, False, True, True, True, True]


def test_the_separate_clip_may_take_one_of_a_pair_alone():
    method = P3O(kl_coef=0.0, clip="separate", clip_range=0.2)
    batch = with_rewards(random_rollouts(method, size=2), [1.0, 1.0, 1.0])
    written = batch.completion
    steps = torch.tensor([0.5, 0.0] * 3, dtype=torch.float64) / written.mask.sum(-1)
    now = dataclasses.replace(written, logps=(written.old_logps + steps[:, None]).requires_grad_())
    moved = dataclasses.replace(batch, completion=now)
    assert method.loss(moved).terms["clip_fraction"].values.tolist() == [0.5] * 6
    assert (gradient(method, moved) != 0).any(-1).tolist() == [False, True] * 3


@both
def test_weights_stay_within_their_bounds(clip: Any):
    method = P3O(clip=clip, max_weight=1.25)
    weights = method.loss(random_rollouts(method, size=2, width=20)).terms["pair_weight"].values
    top = 1.25 if clip == "joint" else 1.25**2
    assert ((weights >= 1 / top - 1e-6) & (weights <= top + 1e-6)).all()


@every
def test_a_completion_without_a_partner_does_not_thin_the_mean(clip: Any):
    """Rows 4 to 7 are the second prompt's; of the third only one is left, as where the others are not judged."""
    method = P3O(clip=clip)
    batch = method.advantages(random_rollouts(method))
    pairs, more = (batch.select(torch.arange(count)) for count in (8, 9))
    assert batches.value(method.loss(more)) == pytest.approx(batches.value(method.loss(pairs)), rel=1e-12)
    once, again = (batches.sums(method.loss(b)) for b in (pairs, more))
    for n in ("pair_weight", "clip_fraction"):
        assert (once[n][0] / once[n][1]).item() == pytest.approx((again[n][0] / again[n][1]).item(), rel=1e-12)
