"""Rows of an experience, taken out of it: the minibatches of a policy that writes."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from bench_of_steps import alone, learn, tiny_llama

from align.batches import Group, Tokens
from align.methods.base import find_method
from align.needs import empty_batch
from align.scoring.experience import Batching, Experience
from align.scoring.layout import RowLayout
from align.scoring.plan import Limits
from align.scoring.score import Kernel, Scorer
from align.training.step import Trainee

LENGTHS = (2, 3, 2, 7)
LAYOUTS = pytest.mark.parametrize("layout", ["padded", "packed", "shared"])


def rollouts(name: str, layout: RowLayout = "shared", max_tokens: int = 1000) -> tuple[Experience, Batching]:
    """Two prompts with two completions each, the last one far longer than the others."""
    draw = np.random.default_rng(0)
    tokens = [Tokens(np.array([5, 6]), draw.integers(3, 60, n), np.ones(n, dtype=bool)) for n in LENGTHS]
    rows = [{"group": float(i // 2), "reward": float(i), "earned": float(i)} for i in range(len(tokens))]
    groups = [Group((t,), row, i) for i, (t, row) in enumerate(zip(tokens, rows, strict=True))]
    needs = find_method(name).needs()
    stored = {("completion", c): torch.zeros(len(groups), max(LENGTHS)) for c in needs.stored("completion")}
    batch = empty_batch(needs, groups, stored)
    return Experience(groups, batch), Batching(needs, layout, Limits(max_tokens, 1000), alone())


@pytest.mark.parametrize("name", ["ppo", "grpo", "rloo"])
def test_a_minibatch_of_short_completions_is_learned_from(name: str):
    whole, batching = rollouts(name)
    policy = Scorer(tiny_llama(), Kernel("sdpa"), value_head=name == "ppo")
    trainee = Trainee(policy, torch.optim.SGD(policy.parameters(), lr=0.0), alone(), 1.0)
    found = learn(trainee, find_method(name)(), whole.select([0, 1]), batching, 0.0)
    assert found.num_tokens == sum(2 + n for n in LENGTHS[:2])


def test_selected_rows_keep_their_tokens():
    whole, _ = rollouts("ppo")
    numbered = torch.arange(whole.batch.advantages.numel(), dtype=torch.float32).view_as(whole.batch.advantages)
    batch = whole.batch.map(lambda t: numbered if t.shape == numbered.shape and t.dtype == numbered.dtype else t)
    part = Experience(whole.groups, batch).select([1, 0])
    assert torch.equal(part.batch.advantages, numbered[[1, 0], :3])
    assert torch.equal(part.batch.completion.mask, torch.tensor([[True, True, True], [True, True, False]]))


@LAYOUTS
def test_completions_that_are_compared_stay_in_one_micro_batch(layout: RowLayout):
    """However little fits, and wherever in the step the rows of a prompt stand."""
    whole, batching = rollouts("rebel", layout, max_tokens=4)
    groups = [whole.groups[i] for i in (0, 2, 1, 3)]
    found = [sorted(micro.groups) for micro in batching.mine(batching.plan(groups, ["completion"]))]
    assert sorted(found) == [[0, 2], [1, 3]]
    alone_in_theirs = rollouts("rloo", "padded", max_tokens=4)[1]
    assert len(alone_in_theirs.mine(alone_in_theirs.plan(groups, ["completion"]))) == 4


@LAYOUTS
@pytest.mark.parametrize("name", ["rebel", "p3o"])
def test_a_step_of_compared_completions_is_the_same_in_small_parts(name: str, layout: RowLayout):
    method: Any = find_method(name)()
    after = []
    for max_tokens in (4, 1000):
        whole, batching = rollouts(name, layout, max_tokens)
        whole = dataclasses.replace(whole, batch=method.advantages(whole.batch))
        policy = Scorer(tiny_llama(), Kernel("sdpa"))
        trainee = Trainee(policy, torch.optim.SGD(policy.parameters(), lr=0.1), alone(), 0.0)
        after.append((learn(trainee, method, whole, batching, 0.1), list(policy.parameters())))
    (small, weights), (large, others) = after
    assert small.grad_norm > 0
    assert small.grad_norm == pytest.approx(large.grad_norm, rel=1e-5)
    for one, other in zip(weights, others, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
