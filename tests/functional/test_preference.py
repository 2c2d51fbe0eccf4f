from __future__ import annotations

import math

import pytest
import torch

from align.functional.preference import log_odds, log_ratio, logistic_loss, pair_metrics


def test_log_ratio_by_hand() -> None:
    # Kept: (-1) - (-2) = 1 and (-3) - (-3.5) = 0.5; the place in the middle is not kept.
    made = log_ratio(
        torch.tensor([[-1.0, math.nan, -3.0]]), torch.tensor([[-2.0, 7.0, -3.5]]), torch.tensor([[True, False, True]])
    )
    assert made.tolist() == [1.5]


def test_the_logistic_loss_of_a_label_has_its_minimum_at_the_labels_logit() -> None:
    for label in (0.2, 0.5, 0.9):
        x = torch.tensor([math.log(label / (1 - label))], dtype=torch.float64, requires_grad=True)
        logistic_loss(x, label).sum().backward()
        assert x.grad is not None
        assert abs(float(x.grad)) < 1e-15


def test_the_logistic_loss_of_extreme_logits_is_the_distance() -> None:
    x = torch.tensor([-1e30, 1e30, -50.0, 50.0])
    assert logistic_loss(x, 1.0).tolist() == pytest.approx([1e30, 0.0, 50.0, 0.0], rel=1e-6, abs=1e-20)


@pytest.mark.parametrize("p", [1e-12, 0.1, 0.5, 0.999])
def test_log_odds_is_the_logit(p: float) -> None:
    made = log_odds(torch.tensor([math.log(p)], dtype=torch.float64))
    torch.testing.assert_close(made, torch.logit(torch.tensor([p], dtype=torch.float64)), rtol=1e-9, atol=0)


def test_log_odds_of_certainty_and_of_impossibility_stay_finite() -> None:
    logps = torch.tensor([0.0, -1e-30, -1e-6, -1e4], requires_grad=True)
    odds = log_odds(logps)
    odds.sum().backward()
    assert odds.isfinite().all()
    assert odds[:3].diff().le(0).all()
    assert logps.grad is not None
    assert logps.grad.isfinite().all()


def test_a_tie_is_a_miss() -> None:
    made = pair_metrics(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 1.0, 4.0]))
    assert made["accuracy"].tolist() == [0.0, 1.0, 0.0]
    assert made["margin"].tolist() == [0.0, 1.0, -1.0]
