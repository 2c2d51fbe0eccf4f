"""Rows of an experience, taken out of it: the minibatches of a policy that writes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from bench_of_steps import alone, tiny_llama

from align.batches import Group, Tokens
from align.methods.base import find_method
from align.needs import empty_batch
from align.training.experience import Experience, Reader
from align.training.plan import Limits
from align.training.score import Kernel, Scorer
from align.training.step import Trainee, train_step

LENGTHS = (2, 3, 2, 7)


def rollouts(name: str) -> tuple[Experience, Reader]:
    """Two prompts with two completions each, the last one far longer than the others."""
    draw = np.random.default_rng(0)
    tokens = [Tokens(np.array([5, 6]), draw.integers(3, 60, n), np.ones(n, dtype=bool)) for n in LENGTHS]
    groups = [Group((t,), {"group": float(i // 2), "reward": float(i)}, i) for i, t in enumerate(tokens)]
    needs = find_method(name).needs()
    stored = {("completion", c): torch.zeros(len(groups), max(LENGTHS)) for c in needs.stored("completion")}
    batch = empty_batch(needs, groups, stored)
    return Experience(groups, batch), Reader(needs, "shared", Limits(1000, 1000), alone())


@pytest.mark.parametrize("name", ["ppo", "grpo", "rloo"])
def test_a_minibatch_of_short_completions_is_learned_from(name: str):
    whole, reader = rollouts(name)
    policy = Scorer(tiny_llama(), Kernel("sdpa"), value_head=name == "ppo")
    trainee = Trainee(policy, torch.optim.SGD(policy.parameters(), lr=0.0), alone(), 1.0)
    found = train_step(trainee, find_method(name)(), whole.select([0, 1]), reader, 0.0)
    assert found.num_tokens == sum(2 + n for n in LENGTHS[:2])


def test_selected_rows_keep_their_tokens():
    whole, _ = rollouts("ppo")
    numbered = torch.arange(whole.batch.advantages.numel(), dtype=torch.float32).view_as(whole.batch.advantages)
    batch = whole.batch.map(lambda t: numbered if t.shape == numbered.shape and t.dtype == numbered.dtype else t)
    part = Experience(whole.groups, batch).select([1, 0])
    assert torch.equal(part.batch.advantages, numbered[[1, 0], :3])
    assert torch.equal(part.batch.completion.mask, torch.tensor([[True, True, True], [True, True, False]]))
