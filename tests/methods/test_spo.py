"""SPO by the properties of its objective."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from rollout_batches import gradient, on_policy, random_rollouts
from torch import Tensor

from align.functional.surrogate import quadratic_surrogate
from align.methods.spo import SPO

ALONE = SPO(value_coef=0.0)


def slopes(ratio: Tensor, advantages: Tensor) -> Tensor:
    """Of the loss, in the ratio."""
    leaf = ratio.clone().requires_grad_()
    return torch.autograd.grad(quadratic_surrogate(leaf.log(), advantages, 0.2).sum(), leaf)[0]


def filled(size: int = 4) -> Any:
    return ALONE.advantages(random_rollouts(ALONE, size=size))


def test_on_policy_the_gradient_is_that_of_reinforce():
    batch = on_policy(filled())
    torch.testing.assert_close(gradient(ALONE, batch), -batch.advantages / batch.completion.mask.sum())


@pytest.mark.parametrize("advantage", [1.5, -0.7])
def test_beyond_its_best_ratio_a_token_is_pulled_back(advantage: float):
    side = 0.2 if advantage > 0 else -0.2
    ratio = torch.tensor([1.0, 1 + side, 1 + 2 * side], dtype=torch.float64)
    at_one, at_best, beyond = slopes(ratio, torch.full_like(ratio, advantage)).tolist()
    assert at_one == -advantage
    assert abs(at_best) < 1e-12
    assert beyond == pytest.approx(advantage)


def test_it_has_no_kink():
    ratio = torch.linspace(0.4, 1.8, 29, dtype=torch.float64)
    for advantage in (1.5, -0.7):
        advantages = torch.full_like(ratio, advantage)
        near = [quadratic_surrogate((ratio + step).log(), advantages, 0.2) for step in (1e-5, -1e-5)]
        torch.testing.assert_close(slopes(ratio, advantages), (near[0] - near[1]) / 2e-5, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("ratio_of", ["token", "completion"])
def test_a_factor_on_advantages_is_one_on_the_gradient(ratio_of: Any):
    method = dataclasses.replace(ALONE, ratio_of=ratio_of)
    batch = filled()
    larger = dataclasses.replace(batch, advantages=3 * batch.advantages)
    torch.testing.assert_close(gradient(method, larger), 3 * gradient(method, batch))


def test_ratios_outside_the_interval_are_counted():
    batch = filled()
    written = batch.completion
    ratio = torch.where(torch.arange(written.mask.shape[1]) % 2 == 0, 1.5, 1.1).double()
    moved = dataclasses.replace(written, logps=written.old_logps + ratio.log())
    terms = ALONE.loss(dataclasses.replace(batch, completion=moved)).terms
    wanted = (ratio > 1.2).expand(written.mask.shape)
    assert torch.equal(terms["clip_fraction"].values[written.mask].bool(), wanted[written.mask])
    torch.testing.assert_close(
        terms["ratio_gap"].values[written.mask], (ratio - 1).expand(written.mask.shape)[written.mask]
    )
