from __future__ import annotations

import method_batches as batches
import pytest
import torch

from align.methods.ipo import IPO


def loss_at(h: float, tau: float) -> float:
    method = IPO(beta=tau, aggregation="sum")
    return batches.value(method.loss(batches.build(IPO.needs(), batches.pairs([[h]], [[0.0]]))))


@pytest.mark.parametrize("aggregation", ["mean", "sum"])
def test_equal_policy_and_reference_cost_a_quarter_of_the_inverse_square(aggregation: str) -> None:
    loss = IPO(beta=0.1, aggregation=aggregation).loss(  # type: ignore[arg-type]
        batches.build(IPO.needs(), batches.pairs([[0.0, 0.0]], [[0.0, 0.0]]))
    )
    assert batches.value(loss) == pytest.approx(25.0, rel=1e-15)  # 1 / (4 * 0.1^2)
    assert batches.mean_of(loss, "accuracy") == 0.0


def test_by_hand() -> None:
    # Sums 3 and -1, means 1.5 and -1 / 2 (two tokens each); the target is 1 / (2 * 0.5) = 1.
    batch = batches.build(IPO.needs(), batches.pairs([[1.0, 2.0]], [[-1.0, 0.0]]))
    assert batches.value(IPO(beta=0.5, aggregation="sum").loss(batch)) == 9.0  # (4 - 1)^2
    assert batches.value(IPO(beta=0.5).loss(batch)) == 1.0  # (2 - 1)^2
    assert batches.mean_of(IPO(beta=0.5).loss(batch), "margin") == 2.0  # rewards are sums: 0.5 * 4


def test_the_minimum_is_zero_at_the_target() -> None:
    tensors = batches.pairs([[2.5]], [[0.0]])
    loss = batches.objective(IPO(beta=0.2, aggregation="sum").loss(batches.build(IPO.needs(), tensors)))
    loss.backward()
    assert loss.item() == 0.0
    assert tensors["chosen.logps"].grad is not None
    assert float(tensors["chosen.logps"].grad) == 0.0


@pytest.mark.parametrize("p", [0.0, 0.3, 0.5, 1.0])
def test_soft_labels_move_the_target(p: float) -> None:
    tau, constant = 0.2, []
    for h in (-3.0, 0.0, 1.0, 7.0):
        both_orders = p * loss_at(h, tau) + (1 - p) * loss_at(-h, tau)
        constant.append(both_orders - (h - (2 * p - 1) / (2 * tau)) ** 2)
    assert constant == pytest.approx([constant[0]] * 4, abs=1e-12)


def test_the_mean_does_not_see_duplicated_tokens_and_the_sum_does() -> None:
    once = batches.build(IPO.needs(), batches.pairs([[1.0, 0.3]], [[-0.5]]))
    twice = batches.build(IPO.needs(), batches.pairs([[1.0, 1.0, 0.3, 0.3]], [[-0.5, -0.5]]))
    mean, total = IPO(), IPO(aggregation="sum")
    torch.testing.assert_close(batches.objective(mean.loss(twice)), batches.objective(mean.loss(once)))
    assert batches.value(total.loss(twice)) != pytest.approx(batches.value(total.loss(once)))


def test_wrong_knobs_are_refused() -> None:
    with pytest.raises((ValueError, TypeError), match="aggregation"):  # the tests' own type checker may be first
        IPO(aggregation="max")  # type: ignore[arg-type]
    unchecked = IPO()
    object.__setattr__(unchecked, "aggregation", "max")
    with pytest.raises(ValueError, match=r"ipo\.aggregation is 'max'; it must be one of mean, sum"):
        unchecked.__post_init__()
    with pytest.raises(ValueError, match=r"ipo\.beta is 0\.0"):
        IPO(beta=0.0)
