"""T-PPO by the properties of its page: what a window is worth, and who learns from which tokens."""

from __future__ import annotations

import dataclasses
from typing import Any

import method_batches as batches
import pytest
import torch
from rollout_batches import gradient, random_rollouts
from torch import Tensor

from align.functional.advantages import gae
from align.methods.t_ppo import TPPO
from align.methods.vc_ppo import VCPPO

METHOD = TPPO()


def written(done: list[bool] | None = None, starts: list[int] | None = None, **knobs: Any) -> Any:
    """A dozen completions of up to six tokens, some of which go on."""
    batch = random_rollouts(METHOD, **knobs)
    ended = torch.tensor(done or [True] * 12)
    batch = dataclasses.replace(
        batch, done=ended, rewards=batch.rewards * ended, starts=torch.tensor(starts or [0] * 12)
    )
    return batch


GOES_ON = [i % 3 != 0 for i in range(12)]
EARLIER = [i % 2 for i in range(12)]


def test_whole_completions_are_ppo_with_two_lambdas():
    other = VCPPO(lam_critic=1.0, whiten=False)
    batch = written()
    mine, theirs = METHOD.advantages(batch), other.advantages(batch)
    torch.testing.assert_close(mine.advantages, theirs.advantages)
    torch.testing.assert_close(mine.returns, theirs.returns)
    torch.testing.assert_close(batches.value(METHOD.loss(mine)), batches.value(other.loss(theirs)))
    assert METHOD.keep(mine).equal(batch.completion.mask | True)


def cut(gamma: float, lam: float) -> tuple[Tensor, Tensor]:
    """Values, and the raw advantages of a completion of five tokens that goes on."""
    values = torch.tensor([[0.3, -0.1, 0.8, 0.2, 0.6]], dtype=torch.float64)
    every = torch.ones(1, 5, dtype=torch.bool)
    return values[0], gae(torch.zeros_like(values), values, every, gamma, lam, after=values[:, -1])[0]


@pytest.mark.parametrize("lam", [0.0, 0.5, 1.0])
def test_the_last_token_of_a_completion_that_goes_on_is_worth_nothing(lam: float):
    values, found = cut(1.0, lam)
    assert found[-1] == 0
    assert found[-2] == values[-1] - values[-2]


def test_a_discount_is_all_that_the_last_token_pays():
    values, found = cut(0.9, 0.0)
    torch.testing.assert_close(found[-1], -0.1 * values[-1])


def test_with_lambda_one_a_cut_completion_telescopes():
    values, found = cut(1.0, 1.0)
    torch.testing.assert_close(found, values[-1] - values)


def test_where_the_held_value_is_the_true_next_one_nothing_is_lost():
    """One token more, whose value is that of the one before it: the same as bootstrapping with it."""
    values = torch.tensor([[0.3, -0.1, 0.8, 0.8]], dtype=torch.float64)
    every = torch.ones_like(values, dtype=torch.bool)
    whole = gae(torch.zeros_like(values), values, every, 0.99, 0.9, after=values.new_zeros(1))
    part = gae(torch.zeros(1, 3, dtype=torch.float64), values[:, :3], every[:, :3], 0.99, 0.9, after=values[:, 3])
    held = gae(torch.zeros(1, 3, dtype=torch.float64), values[:, :3], every[:, :3], 0.99, 0.9, after=values[:, 2])
    assert torch.equal(part, held)
    later = (0.99 * 0.9) ** torch.arange(3, 0, -1) * whole[0, 3]
    torch.testing.assert_close(part[0], whole[0, :3] - later)


def test_a_constant_critic_learns_nothing_from_what_goes_on():
    batch = written([False] * 12)
    flat = dataclasses.replace(batch.completion, old_values=torch.full_like(batch.completion.old_values, 0.7))
    filled = METHOD.advantages(dataclasses.replace(batch, completion=flat))
    assert filled.advantages.abs().max() == 0
    assert batches.sums(METHOD.loss(filled))["value"][1] == 0


def test_zero_after_the_last_token_punishes_what_goes_on():
    batch = written([False] * 12)
    up = dataclasses.replace(batch.completion, old_values=torch.full_like(batch.completion.old_values, 0.7))
    method = TPPO(bootstrap="zero", lam=0.0)
    found = method.advantages(dataclasses.replace(batch, completion=up))
    last = batch.completion.mask.sum(-1) - 1
    assert found.advantages[torch.arange(12), last].tolist() == pytest.approx([-0.7] * 12)


def test_whitening_is_over_the_tokens_of_the_window():
    batch = TPPO(whiten=True).advantages(written(GOES_ON, EARLIER))
    assert batch.advantages[batch.window].mean().abs() < 1e-9
    assert batch.advantages[batch.window].std(correction=0).item() == pytest.approx(1)
    assert not batch.advantages[~batch.window].any()


def test_only_this_windows_tokens_move_the_policy_and_only_what_has_ended_the_critic():
    batch = METHOD.advantages(written(GOES_ON, EARLIER))
    window, mask, done = batch.window, batch.completion.mask, batch.done[:, None]
    assert window.any()
    assert (mask & ~window).any()
    assert not gradient(METHOD, batch)[~window].any()
    value = torch.autograd.grad(batches.objective(METHOD.loss(batch)), batch.completion.values)[0]
    assert not value[~(mask & done)].any()
    assert value[mask & done].abs().min() > 0
    assert torch.equal(METHOD.keep(batch), window | done)


def test_junk_outside_the_window_changes_nothing():
    batch = METHOD.advantages(written(GOES_ON, EARLIER))
    wrong = {
        name: getattr(batch.completion, name).detach().masked_fill(~batch.window, -7.0).requires_grad_(name == "logps")
        for name in ("logps", "old_logps")
    }
    other = dataclasses.replace(batch, completion=dataclasses.replace(batch.completion, **wrong))
    assert batches.value(METHOD.loss(other)) == batches.value(METHOD.loss(batch))
    assert torch.equal(gradient(METHOD, other), gradient(METHOD, batch))


def test_values_beyond_the_last_token_change_nothing():
    batch = written(GOES_ON, EARLIER)
    beyond = batch.completion.old_values.masked_fill(~batch.completion.mask, 1e30)
    other = dataclasses.replace(batch, completion=dataclasses.replace(batch.completion, old_values=beyond))
    mine, theirs = METHOD.advantages(batch), METHOD.advantages(other)
    assert torch.equal(mine.advantages, theirs.advantages)
    assert torch.equal(mine.returns, theirs.returns)


def test_what_goes_on_takes_no_part_in_the_value_loss():
    batch = METHOD.advantages(written(GOES_ON, EARLIER))
    ended = batch.select(batch.done.nonzero()[:, 0])
    whole, part = (batches.mean_of(METHOD.loss(b), "value") for b in (batch, ended))
    assert whole == pytest.approx(part, rel=1e-12)
