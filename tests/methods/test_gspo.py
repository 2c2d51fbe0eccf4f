"""GSPO by the properties of its page."""

from __future__ import annotations

import torch
from rollout_batches import gradient, on_policy, random_rollouts

from align.methods.grpo import GRPO
from align.methods.gspo import GSPO


def test_of_one_token_it_is_grpo():
    """The same clip given, a completion of one token has the token's ratio."""
    gspo, grpo = GSPO(clip_low=0.2, clip_high=0.2), GRPO(kl_coef=0.0, clip_range=0.2)
    found = [gradient(m, m.advantages(random_rollouts(m, width=1))) for m in (gspo, grpo)]
    torch.testing.assert_close(*found)


def test_on_policy_the_gradient_is_shared_by_the_tokens():
    method = GSPO()
    batch = on_policy(method.advantages(random_rollouts(method)))
    lengths = batch.completion.mask.sum(-1, keepdim=True)
    torch.testing.assert_close(gradient(method, batch), -batch.advantages / (lengths * len(batch)))


def test_a_whole_completion_is_clipped_or_none_of_it():
    method = GSPO()
    batch = method.advantages(random_rollouts(method))
    gone = (gradient(method, batch) == 0) | ~batch.completion.mask
    clipped = method.loss(batch).terms["clip_fraction"].values > 0
    assert torch.equal(gone.all(-1), clipped | (batch.advantages == 0).all(-1))
    assert clipped.any()
    assert not clipped.all()
