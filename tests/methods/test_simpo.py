from __future__ import annotations

import math

import method_batches as batches
import pytest
import torch

from align.methods.simpo import SimPO


def batch_of(chosen: list[list[float]], rejected: list[list[float]]) -> batches.Tensors:
    made: batches.Tensors = {}
    for member, values in {"chosen": chosen, "rejected": rejected}.items():
        made[f"{member}.logps"] = torch.tensor(values, dtype=torch.float64, requires_grad=True)
        made[f"{member}.mask"] = torch.ones(len(values), len(values[0]), dtype=torch.bool)
    return made


def test_by_hand() -> None:
    # Means -1 and -2, so beta (m_w - m_l) - gamma = 2 * 1 - 1 = 1: log(1 + e^-1) = 0.313262.
    loss = SimPO().loss(batches.build(SimPO.needs(), batch_of([[-0.5, -1.5]], [[-2.0]])))
    assert batches.value(loss) == pytest.approx(0.313262, abs=1e-6)
    assert batches.mean_of(loss, "margin") == 2.0
    assert batches.mean_of(loss, "chosen_rewards") == -2.0
    assert batches.mean_of(loss, "chosen_logps") == -2.0


def test_equal_means_cost_what_gamma_asks_for() -> None:
    loss = SimPO(gamma=3.0).loss(batches.build(SimPO.needs(), batch_of([[-1.0, -3.0]], [[-2.0]])))
    assert batches.value(loss) == pytest.approx(math.log(1 + math.exp(3)), rel=1e-15)
    assert batches.mean_of(loss, "accuracy") == 0.0


def test_the_tokens_of_a_row_share_its_gradient() -> None:
    tensors = batch_of([[-0.5, -1.5, -1.0, -1.0]], [[-2.0, -2.0]])
    batches.objective(SimPO().loss(batches.build(SimPO.needs(), tensors))).backward()
    slope = 2.0 / (1 + math.exp(1))  # beta sigmoid(-(2 * 1 - 1))
    assert tensors["chosen.logps"].grad is not None
    assert tensors["rejected.logps"].grad is not None
    assert tensors["chosen.logps"].grad.tolist() == [pytest.approx([-slope / 4] * 4)]
    assert tensors["rejected.logps"].grad.tolist() == [pytest.approx([slope / 2] * 2)]


def test_duplicated_tokens_change_nothing() -> None:
    once = batches.build(SimPO.needs(), batch_of([[-0.5, -1.5]], [[-2.0]]))
    twice = batches.build(SimPO.needs(), batch_of([[-0.5, -0.5, -1.5, -1.5]], [[-2.0, -2.0]]))
    torch.testing.assert_close(batches.objective(SimPO().loss(twice)), batches.objective(SimPO().loss(once)))


def test_it_needs_no_other_model() -> None:
    assert SimPO.needs().roles() == ()


def test_wrong_knobs_are_refused() -> None:
    with pytest.raises(ValueError, match=r"simpo\.beta is 0\.0; it must be more than 0"):
        SimPO(beta=0.0)
    with pytest.raises(ValueError, match=r"simpo\.gamma is -1\.0; it must be 0 or more"):
        SimPO(gamma=-1.0)
