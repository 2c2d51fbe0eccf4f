"""Scaf-GRPO by its page: who is told hints, in which order, and what the one that helps does to its group."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from rollout_batches import gradient, random_rollouts
from torch import Tensor

from align.batches import Anchored, Ask
from align.methods.grpo import GRPO
from align.methods.scaf_grpo import ScafGRPO

METHOD = ScafGRPO(num_exempt=0)


def rows(rewards: list[list[float]], hinted: dict[int, list[float]] | None = None, num_hints: int = 3) -> Any:
    """Groups with these rewards; `hinted`: what a group's completions with hints 1, 2, ... earned."""
    plain = [(g, r, 0) for g, of_group in enumerate(rewards) for r in of_group]
    told = [(g, r, hint) for g, of_group in (hinted or {}).items() for hint, r in enumerate(of_group, start=1)]
    groups, earned, hints = (torch.tensor(column) for column in zip(*plain, *told, strict=True))
    batch = random_rollouts(METHOD, size=-(-len(groups) // 3)).select(torch.arange(len(groups)))
    return dataclasses.replace(
        batch, groups=groups, rewards=earned.double(), earned=earned.double(), hints=hints, auxiliary=hints > 0,
        num_hints=torch.full_like(hints, num_hints),
    )  # fmt: skip


def of_rows(batch: Any) -> Tensor:
    return METHOD.advantages(batch).advantages[:, 0]


def test_hints_are_told_one_after_the_other_until_one_helps():
    failed = [[0.0, 0.0], [1.0, 0.0], [0.0, 0.0]]
    assert METHOD.resample(rows(failed)) == [Ask(0, hint=1, learned=True), Ask(4, hint=1, learned=True)]
    assert METHOD.resample(rows(failed, {0: [0.0], 2: [1.0]})) == [Ask(0, hint=2, learned=True)]
    assert METHOD.resample(rows(failed, {0: [0.0, 0.0, 0.0], 2: [1.0]})) == []


def test_whether_answers_failed_is_not_a_matter_of_their_shaped_rewards():
    """Failures of unequal lengths differ by the overlong punishment; a right answer that is punished is right."""
    batch = rows([[0.0, 0.0], [0.0, 1.0]], {0: [1.0]})
    punished = dataclasses.replace(batch, rewards=batch.earned - torch.tensor([0.0, 0.5, 0.0, 1.0, 1.0]).double())
    assert METHOD.resample(punished) == []
    assert METHOD.keep(punished).tolist() == [False, True, True, True, True]
    failed = rows([[0.0, 0.0]])
    failed = dataclasses.replace(failed, rewards=torch.tensor([0.0, -0.5]).double())
    assert METHOD.resample(failed) == [Ask(0, hint=1, learned=True)]


def test_several_hints_may_be_told_at_once():
    method = ScafGRPO(num_exempt=0, hints_at_once=2)
    assert [a.hint for a in method.resample(rows([[0.0, 0.0]]))] == [1, 2]
    assert [a.hint for a in method.resample(rows([[0.0, 0.0]], {0: [0.0, 0.0]}))] == [3]


def test_the_first_experiences_are_without_hints():
    batch, method = rows([[0.0, 0.0]]), ScafGRPO(num_exempt=2)
    assert method.resample(batch) == []
    method = dataclasses.replace(method, **method.controllers(batch))
    assert method.resample(batch) == []
    method = dataclasses.replace(method, **method.controllers(batch))
    assert len(method.resample(batch)) == 1


def test_prompts_without_hints_are_left_alone():
    assert METHOD.resample(rows([[0.0, 0.0]], num_hints=0)) == []


def test_groups_that_have_not_all_failed_are_those_of_grpo():
    batch = rows([[0.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
    other, written = GRPO(kl_coef=0.0), vars(batch.completion)
    batch = dataclasses.replace(batch, completion=Anchored(**written, ref_logps=batch.completion.old_logps))
    assert METHOD.keep(batch).all()
    torch.testing.assert_close(METHOD.advantages(batch).advantages, other.advantages(batch).advantages)
    torch.testing.assert_close(gradient(METHOD, METHOD.advantages(batch)), gradient(other, other.advantages(batch)))


def test_what_helped_takes_the_place_of_a_failure():
    """Eight rewards, one of them 1: mean 1/8, deviation by Bessel sqrt(1/8), so 7/8 and -1/8 over that."""
    batch = rows([[0.0] * 8], {0: [0.0, 1.0]})
    kept, found = METHOD.keep(batch), of_rows(batch)
    assert kept.tolist() == [False] + [True] * 7 + [False, True]
    assert found[9].item() == pytest.approx(2.4749, abs=1e-3)
    torch.testing.assert_close(found[1:8], torch.full((7,), -0.35355, dtype=torch.float64), atol=1e-4, rtol=0)
    assert found[[0, 8]].tolist() == [0, 0]


def test_of_several_hints_that_helped_the_least_is_learned_from():
    batch = rows([[0.0, 0.0]], {0: [0.0, 0.5, 1.0]})
    assert METHOD.keep(batch).tolist() == [False, True, False, True, False]


def test_where_no_hint_helped_nothing_changes():
    batch = rows([[0.0, 0.0], [1.0, 0.0]], {0: [0.0, 0.0, 0.0]})
    assert METHOD.keep(batch).tolist() == [True] * 4 + [False] * 3
    torch.testing.assert_close(of_rows(batch)[:4], of_rows(rows([[0.0, 0.0], [1.0, 0.0]])))
    assert not of_rows(batch)[4:].any()


def test_only_a_group_that_has_failed_alike_is_told_hints():
    """Where punished failures differ, GRPO learns from them as they are."""
    batch = rows([[-1.0, -0.5, 0.0], [-1.0, -1.0, -1.0]])
    assert METHOD.resample(batch) == [Ask(3, hint=1, learned=True)]
    told = rows([[-1.0, -0.5, 0.0], [-1.0, -1.0, -1.0]], {0: [1.0], 1: [1.0]})
    assert METHOD.keep(told).tolist() == [True, True, True, False, True, True, False, True]
