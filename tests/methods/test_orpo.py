from __future__ import annotations

import math

import method_batches as batches
import pytest
import torch

from align.methods.orpo import ORPO


def batch_of(chosen: list[list[float]], rejected: list[list[float]]) -> batches.Tensors:
    made: batches.Tensors = {}
    for member, probabilities in {"chosen": chosen, "rejected": rejected}.items():
        p = torch.tensor(probabilities, dtype=torch.float64)
        made[f"{member}.logps"] = p.log().requires_grad_()
        made[f"{member}.mask"] = torch.ones_like(p, dtype=torch.bool)
    return made


def test_by_hand() -> None:
    # One token each, of probability 0.8 and 0.5: odds 4 and 1, so sigmoid(log 4 - log 1) = 4 / 5 and
    # loss = -log 0.8 - lam log 0.8 = (1 + 0.25) * 0.223144 = 0.278929.
    loss = ORPO(lam=0.25).loss(batches.build(ORPO.needs(), batch_of([[0.8]], [[0.5]])))
    assert batches.value(loss) == pytest.approx(0.278929, abs=1e-6)
    assert batches.mean_of(loss, "likelihood") == pytest.approx(-math.log(0.8))
    assert batches.mean_of(loss, "odds_ratio") == pytest.approx(-math.log(0.8))
    assert batches.mean_of(loss, "margin") == pytest.approx(math.log(4))


def test_the_probability_is_the_geometric_mean_of_the_tokens() -> None:
    # sqrt(0.9 * 0.4) = 0.6, odds 1.5; the rejected 0.6 has the same: a tie, which costs log 2.
    loss = ORPO(lam=2.0).loss(batches.build(ORPO.needs(), batch_of([[0.9, 0.4]], [[0.6]])))
    assert batches.value(loss) == pytest.approx(-math.log(0.6) + 2 * math.log(2), rel=1e-12)
    assert batches.mean_of(loss, "margin") == pytest.approx(0.0, abs=1e-12)


def test_without_the_odds_ratio_it_is_the_likelihood_of_chosen() -> None:
    tensors = batches.random_tensors(ORPO.needs(), rows=4, width=5)
    loss = ORPO(lam=0.0).loss(batches.build(ORPO.needs(), tensors))
    batches.objective(loss).backward()
    mask = tensors["chosen.mask"]
    assert tensors["chosen.logps"].grad is not None
    torch.testing.assert_close(tensors["chosen.logps"].grad, -mask.double() / mask.sum(-1, keepdim=True) / 4)
    assert tensors["rejected.logps"].grad is None


def test_duplicated_tokens_change_nothing() -> None:
    once = batches.build(ORPO.needs(), batch_of([[0.9, 0.4]], [[0.7]]))
    twice = batches.build(ORPO.needs(), batch_of([[0.9, 0.9, 0.4, 0.4]], [[0.7, 0.7]]))
    assert batches.value(ORPO().loss(twice)) == pytest.approx(batches.value(ORPO().loss(once)), rel=1e-12)


def test_it_needs_no_other_model() -> None:
    assert ORPO.needs().roles() == ()


def test_wrong_knobs_are_refused() -> None:
    with pytest.raises(ValueError, match=r"orpo\.lam is -0\.1; it must be 0 or more"):
        ORPO(lam=-0.1)
