"""VC-PPO by the properties of its page: two lambdas over the same values, a lambda for each length, good examples."""

from __future__ import annotations

import dataclasses
from typing import Any

import method_batches as batches
import pytest
import torch
from rollout_batches import gradient, random_rollouts
from torch import Tensor

from align.functional.advantages import length_lambdas, whiten
from align.methods.ppo import PPO
from align.methods.vc_ppo import VCPPO

RAW = VCPPO(whiten=False)


def with_values(batch: Any, values: Tensor) -> Any:
    return dataclasses.replace(batch, completion=dataclasses.replace(batch.completion, old_values=values))


def earned(batch: Any) -> Tensor:
    """(B, T): each completion's reward on all its tokens."""
    mask = batch.completion.mask
    return batch.rewards[:, None].expand(mask.shape).masked_fill(~mask, 0.0)


def test_with_one_lambda_it_is_ppo_without_kl_and_value_clip():
    ours, theirs = VCPPO(lam=0.9, lam_critic=0.9), PPO(lam=0.9, kl_coef=0.0, value_clip=0.0, value_coef=1.0)
    batch = random_rollouts(theirs)
    mine, other = ours.advantages(batch), theirs.advantages(batch)
    torch.testing.assert_close(mine.advantages, other.advantages)
    torch.testing.assert_close(mine.returns, other.returns)
    torch.testing.assert_close(batches.value(ours.loss(mine)), batches.value(theirs.loss(other)))
    torch.testing.assert_close(gradient(ours, mine), gradient(theirs, other))


def test_what_the_critic_learns_does_not_hang_on_what_it_believed():
    batch = random_rollouts(RAW)
    other = with_values(batch, batch.completion.old_values + torch.randn_like(batch.completion.old_values))
    mine, theirs = RAW.advantages(batch), RAW.advantages(other)
    torch.testing.assert_close(mine.returns, theirs.returns)
    torch.testing.assert_close(mine.returns, earned(batch))  # gamma 1, and the reward at the end
    assert (mine.advantages - theirs.advantages).abs().max() > 0.1


def test_whitening_does_not_reach_the_returns():
    batch = random_rollouts(RAW)
    plain, white = RAW.advantages(batch), VCPPO().advantages(batch)
    assert torch.equal(plain.returns, white.returns)
    torch.testing.assert_close(white.advantages, whiten(plain.advantages, batch.completion.mask))


def test_lambda_one_is_the_reward_less_the_value():
    method = VCPPO(lam=1.0, whiten=False)
    batch = random_rollouts(method)
    wanted = (earned(batch) - batch.completion.old_values).masked_fill(~batch.completion.mask, 0.0)
    torch.testing.assert_close(method.advantages(batch).advantages, wanted)


@pytest.mark.parametrize("lam", [0.0, 0.5, 0.95, 1.0])
def test_a_critic_that_knows_the_end_leaves_nothing_to_learn(lam: float):
    method = VCPPO(lam=lam, whiten=False)
    batch = random_rollouts(method)
    found = method.advantages(with_values(batch, earned(batch))).advantages
    assert found.abs().max() < 1e-12


def test_under_a_constant_critic_the_reward_decays_by_lambda():
    batch = random_rollouts(RAW)
    mask = batch.completion.mask
    found = RAW.advantages(with_values(batch, torch.full(mask.shape, 0.3, dtype=torch.float64))).advantages
    to_the_end = mask.sum(-1, keepdim=True) - mask.cumsum(-1)
    wanted = 0.95**to_the_end * (batch.rewards[:, None] - 0.3)
    torch.testing.assert_close(found, wanted.masked_fill(~mask, 0.0))


def test_a_longer_completion_has_a_larger_lambda():
    found = length_lambdas(torch.arange(1, 400), 0.05)
    assert (found.diff() >= 0).all()
    assert (found[:20] == 0).all()
    assert (found[20:] > 0).all()
    assert length_lambdas(torch.tensor([10**6]), 0.05).item() == pytest.approx(1, abs=1e-4)


def test_lambda_of_a_length_counts_tokens_and_not_padding():
    method = VCPPO(length_alpha=0.5, whiten=False)
    batch = random_rollouts(method)
    row = int(batch.completion.mask.sum(-1).argmin())
    length = int(batch.completion.mask[row].sum())
    short = batch.select(torch.tensor([row])).map(lambda t: t[:, :length] if t.ndim == 2 else t)
    torch.testing.assert_close(
        method.advantages(short).advantages[0], method.advantages(batch).advantages[row, :length]
    )


def test_noise_on_the_values_does_not_move_the_mean_of_the_advantages():
    method = VCPPO(lam=1.0, whiten=False)
    batch = random_rollouts(method)
    draw = torch.Generator().manual_seed(0)
    base = batch.completion.old_values
    noisy = [
        method.advantages(with_values(batch, base + torch.randn(base.shape, generator=draw, dtype=base.dtype)))
        for _ in range(400)
    ]
    found, mask = torch.stack([n.advantages for n in noisy]), batch.completion.mask
    gap = (found.mean(0) - method.advantages(batch).advantages)[mask]
    assert gap.abs().max() < 5 / 400**0.5  # five standard errors of noise with deviation 1
    assert found.var(0)[mask].mean().item() == pytest.approx(1, abs=0.1)


def test_good_completions_are_imitated_and_others_are_not():
    plain, more = VCPPO(), VCPPO(nll_coef=0.1)
    batch = plain.advantages(random_rollouts(plain))
    good = batch.completion.mask & (batch.earned > 0)[:, None]
    wanted = torch.where(good, -0.1 / good.sum(), 0.0).double()
    torch.testing.assert_close(gradient(more, batch) - gradient(plain, batch), wanted)
    bad = dataclasses.replace(batch, earned=-batch.rewards.abs())
    assert batches.sums(more.loss(bad))["nll"][1] == 0, "no token is imitated"
    punished = dataclasses.replace(batch, rewards=batch.rewards - 10.0)  # a right answer that is too long is right
    assert batches.sums(more.loss(punished))["nll"][1] == good.sum()


@pytest.mark.parametrize(
    ("knobs", "told"),
    [
        ({"lam_critic": 1.5}, "vc_ppo.lam_critic is 1.5; it must be 0 to 1"),
        ({"length_alpha": -1.0}, "vc_ppo.length_alpha is -1.0"),
        ({"clip_high": 0.0}, "vc_ppo.clip_high is 0.0; it must be more than 0"),
    ],
)
def test_knobs_without_meaning_are_refused(knobs: dict[str, float], told: str):
    with pytest.raises(ValueError, match=told):
        VCPPO(**knobs)
