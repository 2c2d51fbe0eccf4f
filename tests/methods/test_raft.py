"""RAFT by the properties of its page: the likelihood of the best completion of each prompt, and of no other."""

from __future__ import annotations

import dataclasses

import method_batches as batches
import numpy as np
import pytest
import torch
from rollout_batches import gradient, on_policy, random_rollouts

from align.methods.base import of_completion
from align.methods.raft import RAFT

METHOD = RAFT()


def learned(rewards: list[float]) -> list[bool]:
    """Which of three prompts' completions are kept."""
    made = random_rollouts(METHOD, size=len(rewards) // 3, rewards=torch.tensor(rewards, dtype=torch.float64))
    filled = METHOD.advantages(made)
    assert torch.equal(of_completion(filled), METHOD.keep(filled).double())
    return METHOD.keep(filled).tolist()


def test_of_each_prompt_the_best_is_kept() -> None:
    assert learned([0.0, 1.0, -3.0, -2.0, 5.0, 6.0]) == [False, True, False, True, False, True]


def test_of_equals_the_first_is_kept() -> None:
    assert learned([1.0, 1.0, 0.0, 2.0, 2.0, 2.0, 0.0, 3.0, 3.0]) == [c == "x" for c in "x..x...x."]


def test_only_the_order_of_rewards_matters() -> None:
    rewards = torch.randn(12, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    assert learned(rewards.tolist()) == learned((10 * rewards.exp() + 7).tolist())


def test_completions_of_a_prompt_need_not_be_equally_many() -> None:
    made = random_rollouts(METHOD, size=2, rewards=torch.tensor([3.0, 1.0, 2.0, 4.0, 0.0, 9.0], dtype=torch.float64))
    uneven = dataclasses.replace(made, groups=torch.tensor([0, 0, 0, 1, 2, 2]))
    assert METHOD.keep(uneven).tolist() == [True, False, False, True, False, True]


def test_the_loss_is_the_mean_negative_log_likelihood_of_the_tokens_of_the_best() -> None:
    made = METHOD.advantages(random_rollouts(METHOD))
    best = METHOD.keep(made).nonzero()[:, 0]
    loss = METHOD.loss(made.select(best))
    logps, mask = made.completion.logps.detach().numpy(), made.completion.mask.numpy()
    rewards = made.rewards.numpy().reshape(3, 4)
    rows = [4 * prompt + int(np.argmax(rewards[prompt])) for prompt in range(3)]
    wanted = -sum(logps[r, t] for r in rows for t in range(6) if mask[r, t]) / mask[rows].sum()
    assert batches.value(loss) == pytest.approx(wanted, rel=1e-12)
    assert batches.mean_of(loss, "clip_fraction") == 0


def test_what_is_not_the_best_has_no_gradient_even_where_it_is_in_the_step() -> None:
    """As it is where too few prompts are left for an experience's steps."""
    made = METHOD.advantages(random_rollouts(METHOD))
    mask = made.completion.mask
    wanted = -(METHOD.keep(made)[:, None] & mask).double() / mask.sum()
    torch.testing.assert_close(gradient(METHOD, made), wanted)


def test_its_gradient_does_not_depend_on_how_far_the_policy_has_moved() -> None:
    """There is no ratio: likelihood is what is wanted, however often an experience is gone through."""
    made = METHOD.advantages(random_rollouts(METHOD))
    assert torch.equal(gradient(METHOD, made), gradient(METHOD, on_policy(made)))


def test_one_completion_is_no_choice() -> None:
    assert RAFT.smallest_group == 2
    assert RAFT.needs().roles() == ("old", "sampler")
