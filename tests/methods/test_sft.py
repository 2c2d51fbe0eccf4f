from __future__ import annotations

import math

import method_batches as batches
import pytest
import torch
from torch import Tensor

from align.functional.logprobs import statistics
from align.methods.base import Loss
from align.methods.sft import SFT

NEEDS = SFT.needs()


def watched(logits: Tensor, targets: Tensor, mask: Tensor) -> batches.Tensors:
    columns = statistics(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1))
    named = {f"completion.{name}": column.view(targets.shape) for name, column in columns._asdict().items()}
    return {"completion.mask": mask, **named}


def loss_of(logits: Tensor, targets: Tensor, mask: Tensor) -> Loss:
    return SFT().loss(batches.build(NEEDS, watched(logits, targets, mask)))


def test_by_hand() -> None:
    # Kept log-probabilities -1, -2, -3 in one row and -6 in the other: -(-12) / 4 = 3 over tokens,
    # (2 + 6) / 2 = 4 over row means, (6 + 6) / 2 = 6 over row sums.
    tensors = {
        "completion.logps": torch.tensor([[-1.0, -2.0, -3.0], [-6.0, -99.0, -99.0]], requires_grad=True),
        "completion.mask": torch.tensor([[True, True, True], [True, False, False]]),
        "completion.entropies": torch.tensor([[1.0, 1.0, 1.0], [3.0, 50.0, 50.0]]),
        "completion.hits": torch.tensor([[True, False, False], [False, True, True]]),
    }
    batch = batches.build(NEEDS, tensors)
    assert batches.value(SFT().loss(batch)) == 3.0
    assert batches.value(SFT(aggregation="sequence_mean").loss(batch)) == 4.0
    assert batches.value(SFT(aggregation="sequence_sum").loss(batch)) == 6.0
    assert batches.mean_of(SFT().loss(batch), "entropy") == 1.5
    assert batches.mean_of(SFT().loss(batch), "token_accuracy") == 0.25


def test_uniform_logits_cost_log_v() -> None:
    targets = torch.arange(12).view(3, 4)
    made = loss_of(torch.zeros(3, 4, 17, dtype=torch.float64), targets, torch.ones(3, 4, dtype=torch.bool))
    assert batches.value(made) == pytest.approx(math.log(17), rel=1e-15)
    assert batches.mean_of(made, "entropy") == pytest.approx(math.log(17), rel=1e-15)


def test_a_certain_right_answer_costs_nothing_and_teaches_nothing() -> None:
    targets = torch.tensor([[2, 0]])
    logits = (1e4 * torch.nn.functional.one_hot(targets, 5).double()).requires_grad_()
    made = loss_of(logits, targets, torch.ones(1, 2, dtype=torch.bool))
    batches.objective(made).backward()
    assert batches.value(made) == 0.0
    assert batches.mean_of(made, "token_accuracy") == 1.0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_the_target_of_a_masked_token_has_no_influence() -> None:
    logits = torch.randn(2, 4, 6, dtype=torch.float64)
    mask = torch.tensor([[False, True, True, True], [False, False, True, False]])
    targets = torch.randint(6, (2, 4))
    other = torch.where(mask, targets, (targets + 1) % 6)
    assert torch.equal(
        batches.objective(loss_of(logits, targets, mask)), batches.objective(loss_of(logits, other, mask))
    )


def test_a_mean_of_means_would_be_another_loss() -> None:
    tensors = batches.random_tensors(NEEDS, rows=4, width=6)
    tensors["completion.mask"] = torch.tensor([[True] * 6, [True] * 6, [True] + [False] * 5, [True] + [False] * 5])
    batch = batches.build(NEEDS, tensors)
    whole = batches.value(SFT().loss(batch))
    parts = [batches.sums(SFT().loss(batch.select(rows)))["loss"] for rows in torch.arange(4).split([2, 2])]
    assert float(sum(total.detach() for total, _, _ in parts)) / sum(count for _, count, _ in parts) == pytest.approx(
        whole
    )
    assert sum(float(total.detach()) / count for total, count, _ in parts) / 2 != pytest.approx(whole)


@pytest.mark.parametrize("aggregation", ["token_mean", "sequence_mean", "sequence_sum"])
def test_rows_without_a_loss_token_do_not_count(aggregation: str) -> None:
    method = SFT(aggregation=aggregation)  # type: ignore[arg-type]
    tensors = batches.random_tensors(NEEDS, rows=3, width=4)
    whole = batches.build(NEEDS, tensors)
    mask = tensors["completion.mask"].clone()
    mask[1] = False
    emptied = batches.build(NEEDS, {**tensors, "completion.mask": mask})
    without = whole.select(torch.tensor([0, 2]))
    assert batches.value(method.loss(emptied)) == pytest.approx(batches.value(method.loss(without)), rel=1e-14)


def test_an_unknown_aggregation_is_refused() -> None:
    unchecked = SFT()
    object.__setattr__(unchecked, "aggregation", "mean")
    with pytest.raises(
        ValueError, match=r"sft\.aggregation is 'mean'; it must be one of token_mean, sequence_mean, sequence"
    ):
        unchecked.__post_init__()
