"""CISPO by the properties of its page."""

from __future__ import annotations

import torch
from rollout_batches import gradient, on_policy, random_rollouts

from align.methods.cispo import CISPO


def test_every_token_keeps_a_gradient_with_its_clipped_weight():
    method = CISPO(ratio_lower_bound=0.95, ratio_upper_bound=1.05)
    batch = method.advantages(random_rollouts(method))
    written = batch.completion
    ratio = (written.logps - written.old_logps).detach().exp().clamp(0.95, 1.05)
    wanted = -(ratio * batch.advantages / written.mask.sum()).masked_fill(~written.mask, 0.0)
    torch.testing.assert_close(gradient(method, batch), wanted)
    assert 0 < method.loss(batch).terms["clip_fraction"].values[written.mask].float().mean() < 1


def test_on_policy_it_is_reinforce_over_tokens():
    method = CISPO()
    batch = on_policy(method.advantages(random_rollouts(method)))
    torch.testing.assert_close(gradient(method, batch), -batch.advantages / batch.completion.mask.sum())
