"""Clipped losses, KL estimators and weights, by their definitions and limits."""

from __future__ import annotations

import math

import pytest
import torch

from align.functional.correction import bounded, sampler_weights
from align.functional.kl import adapted, k1, k2, k3
from align.functional.surrogate import clipped_surrogate, clipped_value_loss, dual_clipped, is_clipped

RATIOS = torch.tensor([0.5, 0.9, 1.0, 1.1, 1.5])


@pytest.mark.parametrize(("advantage", "wanted"), [(2.0, [1.0, 1.8, 2.0, 2.2, 2.4]), (-2.0, [1.6, 1.8, 2.0, 2.2, 3.0])])
def test_the_clip_bounds_what_is_gained(advantage: float, wanted: list[float]):
    """A good token gains at most 1.2 A, a bad one loses without bound once it has become likelier."""
    found = clipped_surrogate(RATIOS.log(), torch.full((5,), advantage), 0.8, 1.2)
    assert found.tolist() == pytest.approx([-math.copysign(w, advantage) for w in wanted])


def test_the_gradient_is_gone_exactly_where_it_says():
    for advantage in (1.0, -1.0):
        leaf = RATIOS.log().requires_grad_()
        clipped_surrogate(leaf, torch.full((5,), advantage), 0.8, 1.2).sum().backward()
        assert leaf.grad is not None
        assert torch.equal(leaf.grad == 0, is_clipped(leaf, torch.full((5,), advantage), 0.8, 1.2))


def test_without_bounds_it_is_the_plain_ratio():
    found = clipped_surrogate(RATIOS.log(), torch.ones(5), 0.0, math.inf)
    torch.testing.assert_close(found, -RATIOS)


def test_an_absurd_ratio_stays_finite():
    leaf = torch.tensor([500.0, -500.0]).requires_grad_()
    loss = clipped_surrogate(leaf, torch.tensor([-1.0, 1.0]), 0.8, 1.2).sum()
    loss.backward()
    assert loss.isfinite()
    assert leaf.grad is not None
    assert leaf.grad.isfinite().all()


def test_the_dual_clip_bounds_bad_tokens_alone():
    advantages = torch.tensor([-1.0, -1.0, 1.0])
    losses = torch.tensor([2.0, 5.0, 5.0])
    assert dual_clipped(losses, advantages, 3.0).tolist() == [2, 3, 5]


def test_the_value_loss_takes_the_worse_of_two():
    values, old, returns = torch.tensor([[1.0, 1.0]]), torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 3.0]])
    clipped = clipped_value_loss(values, old, returns, 0.2)
    assert clipped.tolist()[0] == pytest.approx(
        [0.5 * 0.8**2, 0.5 * 2.8**2]
    )  # the value counts as 0.2 where that is worse
    assert clipped_value_loss(values, old, returns, math.inf).tolist() == [[0, 2]]


def test_estimators_of_a_known_divergence():
    """E_pi[k1] = E_pi[k3] = KL(pi || ref) by enumeration; k2 is not; k3 is never negative."""
    pi, ref = torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.5, 0.25, 0.25])
    d = (pi / ref).log()[None]
    kl = (pi * (pi / ref).log()).sum().item()
    assert (pi * k1(d)).sum().item() == pytest.approx(kl, rel=1e-5)
    assert (pi * k3(d)).sum().item() == pytest.approx(kl, rel=1e-5)
    assert (pi * k2(d)).sum().item() != pytest.approx(kl, rel=0.02)
    assert (k3(torch.linspace(-30, 30, 61)[None]) >= 0).all()


@pytest.mark.parametrize(
    ("estimator", "slope"), [(k1, lambda d: 1.0), (k2, lambda d: d), (k3, lambda d: 1 - math.exp(-d))]
)
def test_gradients_of_the_estimators(estimator, slope):
    for d in (-0.7, 0.0, 1.3):
        leaf = torch.tensor([[d]]).requires_grad_()
        estimator(leaf).sum().backward()
        assert leaf.grad is not None
        assert leaf.grad.item() == pytest.approx(slope(d), abs=1e-6)


def test_the_controller_stands_still_on_target_and_moves_by_a_fifth_at_most():
    assert adapted(0.2, 6.0, 6.0, 0.5) == 0.2
    assert adapted(0.2, 600.0, 6.0, 0.5) == pytest.approx(0.2 * 1.1)
    assert adapted(0.2, -600.0, 6.0, 0.5) == pytest.approx(0.2 * 0.9)


def test_weights_of_an_exact_sampler_are_1():
    logps, mask = -torch.rand(2, 3), torch.tensor([[True, True, False], [True, True, True]])
    for level in ("token", "sequence", "geometric"):
        weights = sampler_weights(logps, logps, mask, level)
        assert torch.equal(weights, mask.float())
        assert torch.equal(bounded(weights, 0.5, 2.0, "truncate"), weights)
        assert torch.equal(bounded(weights, 0.5, 2.0, "mask"), weights)


def test_bounds_cut_or_drop():
    weights = torch.tensor([[0.2, 1.0, 5.0]])
    assert bounded(weights, 0.5, 2.0, "truncate").tolist() == [[pytest.approx(0.2), 1, 2]]
    assert bounded(weights, 0.5, 2.0, "mask").tolist() == [[0, 1, 0]]
