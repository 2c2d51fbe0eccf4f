from __future__ import annotations

import math

import method_batches as batches
import pytest
import torch

from align.methods.reward_model import RewardModel

NEEDS = RewardModel.needs()


def comparisons(
    chosen: list[float], rejected: list[float], margins: float = 0.0, soft_labels: float = 1.0
) -> batches.Tensors:
    ones = torch.ones(len(chosen), dtype=torch.float64)
    made = {"margins": margins * ones, "soft_labels": soft_labels * ones}
    for member, scores in {"chosen": chosen, "rejected": rejected}.items():
        made[f"{member}.scores"] = torch.tensor(scores, dtype=torch.float64, requires_grad=True)
        made[f"{member}.mask"] = torch.ones(len(scores), 1, dtype=torch.bool)
    return made


def value(method: RewardModel, tensors: batches.Tensors) -> float:
    return batches.value(method.loss(batches.build(NEEDS, tensors)))


def test_by_hand() -> None:
    # Differences 1, 0, -2: log(1 + e^-1) + log 2 + log(1 + e^2) = 0.313262 + 0.693147 + 2.126928 = 3.133337, a third.
    loss = RewardModel().loss(batches.build(NEEDS, comparisons([1.0, 0.5, -1.0], [0.0, 0.5, 1.0])))
    assert batches.value(loss) == pytest.approx(3.133337 / 3, abs=1e-6)
    assert batches.mean_of(loss, "accuracy") == pytest.approx(1 / 3)
    assert batches.mean_of(loss, "ties") == pytest.approx(1 / 3)
    assert batches.mean_of(loss, "margin") == pytest.approx(-1 / 3)
    assert batches.mean_of(loss, "chosen_rewards") == pytest.approx(0.5 / 3)
    assert batches.mean_of(loss, "rejected_rewards") == pytest.approx(0.5)


def test_equal_rewards_cost_log_two_and_pull_apart_evenly() -> None:
    tensors = comparisons([3.0, -1.0], [3.0, -1.0])
    loss = batches.objective(RewardModel().loss(batches.build(NEEDS, tensors)))
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2), rel=1e-15)
    assert tensors["chosen.scores"].grad is not None
    assert tensors["rejected.scores"].grad is not None
    assert tensors["chosen.scores"].grad.tolist() == [-0.25, -0.25]  # 1 / (2 B)
    assert tensors["rejected.scores"].grad.tolist() == [0.25, 0.25]


@pytest.mark.parametrize(
    ("smoothing", "margin", "label"), [(0.0, 0.0, 1.0), (0.2, 0.0, 1.0), (0.0, 0.7, 1.0), (0.0, 0.0, 0.3)]
)
def test_one_constant_on_both_rewards_changes_nothing_unless_centred(
    smoothing: float, margin: float, label: float
) -> None:
    here = comparisons([1.0, -2.0], [0.5, 0.0], margin, label)
    there = comparisons([8.0, 5.0], [7.5, 7.0], margin, label)
    free = RewardModel(label_smoothing=smoothing)
    centred = RewardModel(label_smoothing=smoothing, center_coef=0.01)
    assert value(free, here) == pytest.approx(value(free, there), rel=1e-12)
    assert value(centred, there) > value(centred, here) + 1


def test_a_margin_is_a_head_start_of_rejected() -> None:
    assert value(RewardModel(), comparisons([1.0, 3.0], [0.0, 2.5], margins=0.6)) == pytest.approx(
        value(RewardModel(), comparisons([0.4, 2.4], [0.0, 2.5])), rel=1e-12
    )


def test_gradient_with_a_margin() -> None:
    tensors = comparisons([1.0], [0.4], margins=1.1)
    batches.objective(RewardModel().loss(batches.build(NEEDS, tensors))).backward()
    expected = 1 / (1 + math.exp(1.0 - 0.4 - 1.1))  # sigmoid(r_l - r_w + m)
    assert tensors["chosen.scores"].grad is not None
    assert tensors["rejected.scores"].grad is not None
    assert float(tensors["chosen.scores"].grad) == pytest.approx(-expected, rel=1e-12)
    assert float(tensors["rejected.scores"].grad) == pytest.approx(expected, rel=1e-12)


def test_centring_is_still_where_the_rewards_cancel() -> None:
    plain, centred = comparisons([0.8, -2.0], [-0.8, 2.0]), comparisons([0.8, -2.0], [-0.8, 2.0])
    batches.objective(RewardModel().loss(batches.build(NEEDS, plain))).backward()
    batches.objective(RewardModel(center_coef=5.0).loss(batches.build(NEEDS, centred))).backward()
    assert plain["chosen.scores"].grad is not None
    assert torch.equal(plain["chosen.scores"].grad, centred["chosen.scores"].grad)  # type: ignore[arg-type]


def test_soft_labels_and_smoothing_are_the_same_thing() -> None:
    hard = comparisons([1.0, -0.5], [0.0, 0.3])
    soft = comparisons([1.0, -0.5], [0.0, 0.3], soft_labels=0.85)
    assert value(RewardModel(label_smoothing=0.15), hard) == pytest.approx(value(RewardModel(), soft), rel=1e-12)
    assert value(RewardModel(), comparisons([1.0, -0.5], [0.0, 0.3], soft_labels=1.0)) == value(RewardModel(), hard)


@pytest.mark.parametrize("q", [0.2, 0.5, 0.9])
def test_soft_labels_are_satisfied_at_their_logit(q: float) -> None:
    tensors = comparisons([math.log(q / (1 - q))], [0.0], soft_labels=q)
    batches.objective(RewardModel().loss(batches.build(NEEDS, tensors))).backward()
    assert tensors["chosen.scores"].grad is not None
    assert float(tensors["chosen.scores"].grad) == pytest.approx(0.0, abs=1e-16)


def test_an_undecided_label_is_the_mean_of_both_orders() -> None:
    one, other = comparisons([1.3], [0.2]), comparisons([0.2], [1.3])
    tie = comparisons([1.3], [0.2], soft_labels=0.5)
    both = (value(RewardModel(), one) + value(RewardModel(), other)) / 2
    assert value(RewardModel(), tie) == pytest.approx(both, rel=1e-12)


def test_rows_without_margin_and_label_are_plain_bradley_terry() -> None:
    assert NEEDS.rows == {"margins": ("margin", 0.0), "soft_labels": ("soft_label", 1.0)}


def test_wrong_knobs_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"reward_model\.label_smoothing is 0\.5; it must be 0 or more and less than 0\.5"
    ):
        RewardModel(label_smoothing=0.5)
    with pytest.raises(ValueError, match=r"reward_model\.center_coef is -1\.0"):
        RewardModel(center_coef=-1.0)
