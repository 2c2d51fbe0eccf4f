"""Estimators of the divergence, as values and as losses, from where both agree to where nothing agrees any more."""

from __future__ import annotations

import pytest
import torch

from align.functional.kl import ESTIMATORS, LARGEST, Estimator, k3

FAR = torch.tensor([[-200.0, -88.0, -20.5, -20.0, -19.5, -1.0, -1e-3, 0.0, 1e-3, 1.0, 30.0, 200.0]])


def gradients(d: torch.Tensor, name: Estimator) -> torch.Tensor:
    d = d.clone().requires_grad_()
    return torch.autograd.grad(ESTIMATORS[name](d).sum(), d)[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["k2", "k3"])
def test_as_losses_they_never_drive_the_two_further_apart(name: Estimator, dtype: torch.dtype):
    found = gradients(FAR.to(dtype), name)
    assert found.isfinite().all()
    assert (found * FAR.sign() >= 0).all(), "the gradient is at most 0 where the policy is too unlikely"


def test_k3_is_never_negative_and_0_where_both_agree():
    values = k3(FAR.double())[0]
    assert values.isfinite().all()
    assert (values >= 0).all()
    assert k3(torch.zeros(1, 1)).item() == 0
    assert (values[:-1] >= values[1:])[: int((FAR < 0).sum())].all(), "the further below, the larger"


def test_within_bounds_k3_is_its_formula():
    d = torch.linspace(-LARGEST, LARGEST, 101, dtype=torch.float64)[None]
    torch.testing.assert_close(k3(d), torch.exp(-d) - 1 + d)
    torch.testing.assert_close(gradients(d[:, 1:], "k3"), 1 - torch.exp(-d[:, 1:]))
