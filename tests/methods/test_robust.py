from __future__ import annotations

import math

import method_batches as batches
import pytest
import torch

from align.methods.dpo import DPO
from align.methods.robust import Robust


def losses_at(method: DPO | Robust, h: float) -> float:
    return batches.value(method.loss(batches.build(method.needs(), batches.pairs([[h]], [[0.0]]))))


def test_by_hand() -> None:
    # beta h = 2: (0.9 * 0.126928 - 0.1 * 2.126928) / 0.8 = (0.114235 - 0.212693) / 0.8 = -0.123072: below 0.
    assert losses_at(Robust(beta=0.5, label_smoothing=0.1), 4.0) == pytest.approx(-0.123072, abs=1e-6)


@pytest.mark.parametrize("h", [-20.0, -1.0, 0.0, 2.5, 60.0])
@pytest.mark.parametrize("eps", [0.05, 0.3, 0.45])
def test_averaged_over_flips_it_is_the_clean_loss(h: float, eps: float) -> None:
    noisy = Robust(label_smoothing=eps)
    averaged = (1 - eps) * losses_at(noisy, h) + eps * losses_at(noisy, -h)
    assert averaged == pytest.approx(losses_at(DPO(), h), rel=1e-12)


@pytest.mark.parametrize("h", [-40.0, 0.0, 40.0, 400.0])
def test_the_gradient_never_vanishes(h: float) -> None:
    tensors = batches.pairs([[h]], [[0.0]])
    batches.objective(Robust(label_smoothing=0.2).loss(batches.build(Robust.needs(), tensors))).backward()
    assert tensors["chosen.logps"].grad is not None
    expected = -0.1 * (1 / (1 + math.exp(0.1 * h)) + 0.2 / 0.6)
    assert float(tensors["chosen.logps"].grad) == pytest.approx(expected, rel=1e-12)


def test_without_noise_it_is_dpo() -> None:
    batch = batches.build(Robust.needs(), batches.random_tensors(Robust.needs(), rows=5, width=4))
    torch.testing.assert_close(
        Robust(label_smoothing=0.0).loss(batch).terms["loss"].values, DPO().loss(batch).terms["loss"].values
    )


@pytest.mark.parametrize("eps", [-0.1, 0.5])
def test_a_flip_rate_without_information_is_refused(eps: float) -> None:
    with pytest.raises(ValueError, match=r"robust\.label_smoothing"):
        Robust(label_smoothing=eps)
