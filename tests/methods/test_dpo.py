from __future__ import annotations

import math

import method_batches as batches
import pytest
import torch

from align.methods.dpo import DPO

LN2 = math.log(2)


def loss_at(h: float, beta: float = 0.1) -> float:
    tensors = batches.pairs([[h, 0.0]], [[0.0, 0.0]])
    return batches.value(DPO(beta=beta).loss(batches.build(DPO.needs(), tensors)))


def test_equal_policy_and_reference_cost_log_two_and_win_nothing() -> None:
    loss = DPO().loss(batches.build(DPO.needs(), batches.pairs([[0.0, 0.0]], [[0.0, 0.0]])))
    assert batches.value(loss) == pytest.approx(LN2, rel=1e-15)
    assert batches.mean_of(loss, "accuracy") == 0.0
    assert batches.mean_of(loss, "margin") == 0.0


def test_by_hand() -> None:
    # u_w = 1 + 2 = 3, u_l = -1, so h = 4 and beta h = 2: loss = log(1 + e^-2) = log(1.1353353) = 0.126928.
    loss = DPO(beta=0.5).loss(batches.build(DPO.needs(), batches.pairs([[1.0, 2.0]], [[-1.0, 0.0]])))
    assert batches.value(loss) == pytest.approx(0.126928, abs=1e-6)
    assert batches.mean_of(loss, "chosen_rewards") == 1.5
    assert batches.mean_of(loss, "rejected_rewards") == -0.5
    assert batches.mean_of(loss, "margin") == 2.0
    assert batches.mean_of(loss, "accuracy") == 1.0
    assert batches.mean_of(loss, "chosen_logps") == 1.0  # the reference's two tokens are -1 each
    assert batches.mean_of(loss, "rejected_logps") == -3.0
    assert batches.mean_of(loss, "likelihood_accuracy") == 1.0


def test_every_kept_token_of_a_row_has_the_same_gradient() -> None:
    tensors = batches.random_tensors(DPO.needs(), rows=4, width=6)
    loss = DPO(beta=0.3).loss(batches.build(DPO.needs(), tensors))
    batches.objective(loss).backward()
    h = (loss.terms["chosen_rewards"].values - loss.terms["rejected_rewards"].values) / 0.3
    expected = 0.3 * torch.sigmoid(-0.3 * h) / 4
    for member, sign in (("chosen", -1), ("rejected", 1)):
        grad = tensors[f"{member}.logps"].grad
        assert grad is not None
        wanted = sign * expected[:, None] * tensors[f"{member}.mask"]
        torch.testing.assert_close(grad, wanted)


@pytest.mark.parametrize("h", [-30.0, -1.0, 0.0, 0.7, 400.0])
def test_swapping_the_members_changes_the_loss_by_the_margin(h: float) -> None:
    assert loss_at(h) - loss_at(-h) == pytest.approx(-0.1 * h, rel=1e-12)


def test_one_constant_on_both_sums_changes_nothing() -> None:
    plain = batches.pairs([[1.0, 2.0]], [[-1.0, 0.5]])
    shifted = batches.pairs([[1.7, 2.0]], [[-1.0, 1.2]])
    one, other = (batches.value(DPO().loss(batches.build(DPO.needs(), t))) for t in (plain, shifted))
    assert one == pytest.approx(other, rel=1e-14)


def test_duplicated_tokens_count_twice() -> None:
    doubled = batches.pairs([[1.0, 1.0]], [[-0.5, -0.5]])
    loss = DPO().loss(batches.build(DPO.needs(), doubled))
    assert batches.mean_of(loss, "margin") == pytest.approx(2 * 0.1 * 1.5)


def test_the_other_pairs_of_a_batch_have_no_influence() -> None:
    together = DPO().loss(batches.build(DPO.needs(), batches.pairs([[1.0], [9.0]], [[0.0], [-7.0]])))
    alone = DPO().loss(batches.build(DPO.needs(), batches.pairs([[1.0]], [[0.0]])))
    assert torch.equal(together.terms["loss"].values[:1], alone.terms["loss"].values)


def test_a_stored_reference_with_gradient_is_refused() -> None:
    tensors = batches.pairs([[1.0]], [[0.0]])
    tensors["chosen.ref_logps"].requires_grad_()
    with pytest.raises(ValueError, match="ref_logps carries a gradient"):
        batches.build(DPO.needs(), tensors)


@pytest.mark.parametrize("beta", [0.0, -0.1])
def test_beta_must_be_positive(beta: float) -> None:
    with pytest.raises(ValueError, match=rf"dpo\.beta is {beta}; it must be (finite and )?more than 0"):
        DPO(beta=beta)
