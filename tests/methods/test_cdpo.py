from __future__ import annotations

import math

import method_batches as batches
import pytest
import torch

from align.methods.cdpo import CDPO
from align.methods.dpo import DPO


def gradient_in_h(h: float, beta: float, eps: float) -> float:
    tensors = batches.pairs([[h]], [[0.0]])
    batches.objective(CDPO(beta=beta, label_smoothing=eps).loss(batches.build(CDPO.needs(), tensors))).backward()
    assert tensors["chosen.logps"].grad is not None
    return float(tensors["chosen.logps"].grad)


def test_by_hand() -> None:
    # beta h = 0.5 * 4 = 2: 0.9 log(1 + e^-2) + 0.1 log(1 + e^2) = 0.9 * 0.126928 + 0.1 * 2.126928 = 0.326928.
    method = CDPO(beta=0.5, label_smoothing=0.1)
    loss = method.loss(batches.build(CDPO.needs(), batches.pairs([[4.0]], [[0.0]])))
    assert batches.value(loss) == pytest.approx(0.326928, abs=1e-6)


def test_the_gradient_vanishes_where_the_label_is_believed_as_much_as_it_should() -> None:
    h = math.log(0.8 / 0.2) / 0.3
    assert gradient_in_h(h, beta=0.3, eps=0.2) == pytest.approx(0.0, abs=1e-16)
    assert gradient_in_h(h - 0.1, beta=0.3, eps=0.2) < 0 < gradient_in_h(h + 0.1, beta=0.3, eps=0.2)


@pytest.mark.parametrize("h", [-8.0, 0.0, 3.0])
def test_smoothing_takes_eps_from_the_gradient_of_dpo(h: float) -> None:
    expected = -0.3 * (1 / (1 + math.exp(0.3 * h)) - 0.2)
    assert gradient_in_h(h, beta=0.3, eps=0.2) == pytest.approx(expected, rel=1e-12)


def test_without_noise_it_is_dpo() -> None:
    tensors = batches.random_tensors(CDPO.needs(), rows=5, width=4)
    batch = batches.build(CDPO.needs(), tensors)
    torch.testing.assert_close(
        CDPO(label_smoothing=0.0).loss(batch).terms["loss"].values, DPO().loss(batch).terms["loss"].values
    )


@pytest.mark.parametrize("eps", [-0.1, 0.5, 1.0])
def test_a_flip_rate_without_information_is_refused(eps: float) -> None:
    with pytest.raises(ValueError, match=r"cdpo\.label_smoothing is .*; it must be 0 or more and less than 0\.5"):
        CDPO(label_smoothing=eps)
