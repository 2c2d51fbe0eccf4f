"""KTO, by its properties and by numbers worked out in words.

Four answers, beta 0.5, desirable_weight 1, undesirable_weight 2. Their summed log-ratios u are 2, -1, 1, 0; the first
two are desirable. The answers given to other prompts have summed log-ratios 1.5, -0.5, 1, and one row has none.

    z = max(0, (1.5 - 0.5 + 1) / 3) = 2/3           the row without a foreign answer does not count

    desirable,   u = 2:  1 * (1 - sigmoid(0.5 * (2 - 2/3)))  = 1 - sigmoid(0.666667)  = 0.339244
    desirable,   u = -1: 1 * (1 - sigmoid(0.5 * (-1 - 2/3))) = 1 - sigmoid(-0.833333) = 0.697059
    undesirable, u = 1:  2 * (1 - sigmoid(0.5 * (2/3 - 1)))  = 2 (1 - sigmoid(-0.166667)) = 1.083141
    undesirable, u = 0:  2 * (1 - sigmoid(0.5 * (2/3 - 0)))  = 2 (1 - sigmoid(0.333333))  = 0.834860

    loss = (0.339244 + 0.697059 + 1.083141 + 0.834860) / 4 = 0.738576

The loss of TRL's KTO trainer is the same one, written with rewards: each desirable answer costs
1 - sigmoid(beta (log-ratio - KL)), each undesirable one 1 - sigmoid(beta (KL - log-ratio)), each class times its
weight, averaged over all answers, with KL the mean log-ratio of mismatched answers, cut at 0 and detached.
"""

from __future__ import annotations

import dataclasses

import method_batches as batches
import numpy as np
import pytest
import torch
from torch import Tensor

from align.batches import Group, Judged, Referenced, Tokens
from align.methods.kto import KTO

NEEDS = KTO.needs()
HAND = KTO(beta=0.5, undesirable_weight=2.0)


def answers(u: list[float], desirable: list[bool], foreign: list[float | None]) -> batches.Tensors:
    ratios = torch.tensor(u, dtype=torch.float64)[:, None]
    others = torch.tensor([0.0 if f is None else f for f in foreign], dtype=torch.float64)[:, None]
    counted = torch.tensor([[f is not None] for f in foreign])
    return {
        "completion.mask": torch.ones_like(ratios, dtype=torch.bool),
        "completion.ref_logps": torch.full_like(ratios, -3.0),
        "completion.logps": (ratios - 3).requires_grad_(),
        "mismatched.mask": counted,
        "mismatched.ref_logps": torch.full_like(others, -4.0),
        "mismatched.old_logps": torch.where(counted, others - 4, torch.nan),
        "labels": torch.tensor(desirable),
        "baseline": torch.zeros(len(u), dtype=torch.float64),
    }


def by_hand() -> batches.Tensors:
    return answers([2.0, -1.0, 1.0, 0.0], [True, True, False, False], [1.5, None, -0.5, 1.0])


def prepared(method: KTO, tensors: batches.Tensors) -> Judged[Referenced]:
    return method.prepare(batches.build(NEEDS, tensors))


def test_by_hand() -> None:
    batch = prepared(HAND, by_hand())
    assert batch.baseline.tolist() == pytest.approx([2 / 3] * 4)
    loss = HAND.loss(batch)
    assert loss.terms["loss"].values.tolist() == pytest.approx([0.339244, 0.697059, 1.083141, 0.834860], abs=1e-6)
    assert batches.value(loss) == pytest.approx(0.738576, abs=1e-6)
    assert batches.mean_of(loss, "accuracy") == 0.5  # 2 > z and 0 < z
    assert batches.mean_of(loss, "desirable_rewards") == 0.25  # 0.5 * (2 - 1) / 2
    assert batches.mean_of(loss, "undesirable_rewards") == 0.25
    assert batches.mean_of(loss, "desirable_logps") == -2.5
    assert batches.mean_of(loss, "baseline") == pytest.approx(2 / 3)


def test_equal_policy_and_reference_cost_one_half() -> None:
    loss = KTO().loss(prepared(KTO(), answers([0.0, 0.0], [True, False], [0.0, 0.0])))
    assert batches.value(loss) == 0.5
    assert batches.mean_of(loss, "accuracy") == 0.0


def test_the_baseline_is_never_negative() -> None:
    batch = prepared(KTO(), answers([0.0, 0.0], [True, False], [-5.0, 1.0]))
    assert batch.baseline.tolist() == [0.0, 0.0]


def test_a_step_of_one_prompt_has_baseline_zero() -> None:
    batch = prepared(KTO(), answers([1.0, 2.0], [True, False], [None, None]))
    assert batch.baseline.tolist() == [0.0, 0.0]


def test_the_gradient_does_not_pass_the_baseline() -> None:
    tensors = by_hand()
    batch = prepared(HAND, tensors)
    assert not batch.baseline.requires_grad
    batches.objective(HAND.loss(batch)).backward()
    # d/du of w (1 - sigmoid(x)) is -w beta s (1 - s) for a desirable answer and the opposite for an undesirable one,
    # s the sigmoid; the mean is over four answers. s(1-s): 0.224157, 0.211168, 0.248272, 0.243182.
    expected = [-0.5 * 0.224157 / 4, -0.5 * 0.211168 / 4, 2 * 0.5 * 0.248272 / 4, 2 * 0.5 * 0.243182 / 4]
    assert tensors["completion.logps"].grad is not None
    assert tensors["completion.logps"].grad.flatten().tolist() == pytest.approx(expected, abs=1e-6)


def test_micro_batches_share_the_baseline_of_the_step() -> None:
    batch = prepared(HAND, by_hand())
    whole = HAND.loss(batch).terms["loss"].values
    parts = [HAND.loss(batch.select(rows)).terms["loss"].values for rows in torch.arange(4).split([1, 3])]
    assert torch.equal(torch.cat(parts), whole)


def test_another_rows_foreign_answer_moves_the_loss() -> None:
    quiet, loud = by_hand(), by_hand()
    loud["mismatched.old_logps"] = loud["mismatched.old_logps"] + torch.tensor([[0.0], [0.0], [3.0], [0.0]])

    def first(tensors: batches.Tensors) -> Tensor:
        return HAND.loss(prepared(HAND, tensors)).terms["loss"].values[0]

    assert first(loud) > first(quiet)  # a higher baseline asks more of a desirable answer


def test_weights_scale_their_class_alone() -> None:
    batch = prepared(HAND, by_hand())
    one = dataclasses.replace(HAND, desirable_weight=1.0).loss(batch).terms["loss"].values
    three = dataclasses.replace(HAND, desirable_weight=3.0).loss(batch).terms["loss"].values
    torch.testing.assert_close(three, one * torch.tensor([3.0, 3.0, 1.0, 1.0], dtype=torch.float64))


def test_better_answers_cost_less_if_desirable_and_more_if_not() -> None:
    u = [-200.0, -3.0, 0.0, 3.0, 200.0]
    for desirable, sign in ((True, -1.0), (False, 1.0)):
        loss = KTO().loss(prepared(KTO(), answers(u, [desirable] * 5, [0.0] * 5))).terms["loss"].values.detach()
        assert (sign * loss.diff() > 0).all()
        assert ((loss >= 0) & (loss <= 1)).all()


def test_mismatched_answers_come_from_another_prompt() -> None:
    def group(prompt: int, answer: int, index: int) -> Group:
        tokens = Tokens(np.array([prompt], np.int32), np.array([answer], np.int32), np.array([True]))
        return Group((tokens,), {"label": 1.0}, index)

    arranged = Judged.arrange([group(1, 10, 0), group(1, 11, 1), group(2, 12, 2)])
    pairs = [(int(g.members[1].prompt[0]), int(g.members[1].completion[0])) for g in arranged]
    assert pairs == [(1, 12), (1, 12), (2, 10)]
    alone = Judged.arrange([group(1, 10, 0), group(1, 11, 1)])
    assert not any(g.members[1].mask.any() for g in alone)


def test_no_mismatched_answer_makes_a_row_longer_than_the_longest() -> None:
    """Otherwise a long prompt beside a long answer would be beyond data.max_length and the model's context."""

    def group(prompt: int, size: int, answer: int, index: int) -> Group:
        tokens = Tokens(np.full(size, prompt, np.int32), np.full(answer, prompt, np.int32), np.ones(answer, dtype=bool))
        return Group((tokens,), {"label": 1.0}, index)

    arranged = Judged.arrange([group(1, 90, 10, 0), group(2, 5, 95, 1), group(3, 5, 8, 2)])
    assert [int(g.members[1].completion[0]) for g in arranged] == [3, 3, 1]
    assert max(len(m) for g in arranged for m in g.members) == 100
    nothing_fits = Judged.arrange([group(1, 90, 10, 0), group(2, 5, 95, 1)])
    assert [bool(g.members[1].mask.any()) for g in nothing_fits] == [False, True]


def test_wrong_knobs_are_refused() -> None:
    with pytest.raises(ValueError, match=r"kto\.beta is 0\.0"):
        KTO(beta=0.0)
    with pytest.raises(ValueError, match=r"kto\.undesirable_weight is -1\.0; it must be 0 or more"):
        KTO(undesirable_weight=-1.0)
    assert KTO.smallest_batch == 2
