"""DAPO by the properties of its page."""

from __future__ import annotations

import dataclasses

import torch
from rollout_batches import gradient, on_policy, random_rollouts

from align.methods.dapo import DAPO


def test_only_groups_with_spread_are_kept():
    method = DAPO()
    rewards = torch.tensor([1.0] * 4 + [1.0, 0.0, 0.0, 0.0] + [0.0] * 4, dtype=torch.float64)
    assert method.keep(random_rollouts(method, rewards=rewards)).tolist() == [False] * 4 + [True] * 4 + [False] * 4


def test_groups_are_selected_by_what_their_answers_earned_and_not_by_the_shaped_rewards():
    """An all-correct group whose completions are of unequal lengths differs by the overlong punishment alone (eq. 11);
    one whose rewards are made equal by their shape has advantages of 0."""
    method = DAPO()
    batch = random_rollouts(method)
    earned = torch.tensor([1.0] * 4 + [1.0, 1.0, 0.0, 0.0] * 2, dtype=torch.float64)
    punished = torch.tensor([0.0, 0.0, -0.5, -1.0] * 2 + [0.0] * 4, dtype=torch.float64)
    rewards = torch.where(torch.arange(12) < 8, earned + punished, -1.0)
    batch = dataclasses.replace(batch, earned=earned, rewards=rewards)
    assert method.keep(batch).tolist() == [False] * 4 + [True] * 4 + [False] * 4
    assert method.advantages(batch).advantages[0, 0] != 0, "by shaped rewards it would have been learned from"


def test_on_policy_every_token_weighs_the_same():
    method = DAPO()
    batch = on_policy(method.advantages(random_rollouts(method)))
    torch.testing.assert_close(gradient(method, batch), -batch.advantages / batch.completion.mask.sum())


def test_the_upper_clip_gives_good_tokens_more_room():
    """Between 1.2 and 1.28 a good token still has a gradient, at 1.3 no more; a bad one always."""
    method = DAPO()
    batch = random_rollouts(method, size=2, width=1)
    ratios = torch.tensor([1.25, 1.25, 1.3, 1.3, 0.79, 0.79], dtype=torch.float64)[:, None]
    signs = torch.tensor([1.0, -1.0] * 3, dtype=torch.float64)[:, None]
    moved = dataclasses.replace(
        batch.completion, logps=(batch.completion.old_logps + ratios.log()).detach().requires_grad_()
    )
    batch = dataclasses.replace(batch, completion=moved, advantages=signs)
    assert (gradient(method, batch) != 0).flatten().tolist() == [True, True, False, True, True, False]
