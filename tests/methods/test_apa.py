"""APA by the properties of its regression."""

from __future__ import annotations

import dataclasses
from typing import Any

import method_batches as batches
import torch
from rollout_batches import gradient, random_rollouts
from torch import Tensor

from align.methods.apa import APA

ALONE = APA(value_coef=0.0)


def filled() -> Any:
    return ALONE.advantages(random_rollouts(ALONE))


def moved_to(batch: Any, logps: Tensor) -> Any:
    """The same completions under a policy with these log-probabilities."""
    now = dataclasses.replace(batch.completion, logps=logps.detach().clone().requires_grad_())
    return dataclasses.replace(batch, completion=now)


def test_nothing_is_left_to_learn_at_the_target():
    batch = filled()
    there = moved_to(batch, batch.completion.ref_logps + batch.advantages / ALONE.apa_lambda)
    assert batches.value(ALONE.loss(there)) < 1e-25
    assert gradient(ALONE, there).abs().max() < 1e-12


def test_at_the_reference_it_is_the_policy_gradient():
    batch = filled()
    found = gradient(ALONE, moved_to(batch, batch.completion.ref_logps))
    torch.testing.assert_close(found, -2 * batch.advantages / ALONE.apa_lambda / batch.completion.mask.sum())


def test_who_wrote_the_completions_does_not_matter():
    batch = random_rollouts(ALONE)
    other = dataclasses.replace(batch.completion, old_logps=batch.completion.old_logps - 1.0)
    found = [ALONE.advantages(b) for b in (batch, dataclasses.replace(batch, completion=other))]
    assert torch.equal(found[0].advantages, found[1].advantages)
    assert torch.equal(found[0].returns, found[1].returns)
    for objective in ("squared", "weighted"):
        method = dataclasses.replace(ALONE, objective=objective)
        assert torch.equal(gradient(method, found[0]), gradient(method, found[1]))


def test_advantages_are_measured_in_units_of_lambda():
    batch = filled()
    double = dataclasses.replace(batch, advantages=2 * batch.advantages)
    method = dataclasses.replace(ALONE, apa_lambda=2 * ALONE.apa_lambda)
    assert torch.equal(gradient(method, double), gradient(ALONE, batch))
    assert batches.value(method.loss(double)) == batches.value(ALONE.loss(batch))


def test_unwhitened_a_unit_of_reward_is_worth_the_same_nats_in_every_experience():
    """One token, no critic: the target lies reward / apa_lambda from the reference, whatever the others earned."""
    method = APA(value_coef=0.0, whiten=False, apa_lambda=0.5)
    batch = random_rollouts(method, width=1)
    blank = dataclasses.replace(batch.completion, old_values=torch.zeros_like(batch.completion.old_values))
    filled = method.advantages(dataclasses.replace(batch, completion=blank))
    there = moved_to(filled, batch.completion.ref_logps + 2 * batch.rewards[:, None])
    assert batches.value(method.loss(there)) < 1e-25


def test_the_unit_of_the_reward_does_not_matter_where_there_is_no_critic():
    batch = random_rollouts(ALONE)
    blank = dataclasses.replace(batch.completion, old_values=torch.zeros_like(batch.completion.old_values))
    found = [
        ALONE.advantages(dataclasses.replace(batch, completion=blank, rewards=scale * batch.rewards)).advantages
        for scale in (1.0, 5.0)
    ]
    torch.testing.assert_close(found[0], found[1])
