"""ReMax: greedy completions are asked for once, and are the baseline."""

from __future__ import annotations

import dataclasses

import torch
from rollout_batches import random_rollouts

from align.batches import Ask
from align.methods.base import of_completion
from align.methods.remax import ReMax

PLAIN = ReMax(kl_coef=0.0)


def test_it_asks_for_one_greedy_completion_of_each_prompt():
    batch = random_rollouts(PLAIN)
    assert PLAIN.resample(batch) == [Ask(0, greedy=True), Ask(4, greedy=True), Ask(8, greedy=True)]
    answered = dataclasses.replace(batch, auxiliary=torch.tensor([False, False, False, True] * 2 + [False] * 4))
    assert PLAIN.resample(answered) == [Ask(8, greedy=True)]


def test_the_baseline_is_what_the_greedy_completion_earns():
    batch = random_rollouts(PLAIN)
    greedy = torch.tensor([False, False, False, True] * 2 + [False] * 4)
    written = dataclasses.replace(batch.completion, mask=batch.completion.mask & ~greedy[:, None])
    found = of_completion(PLAIN.advantages(dataclasses.replace(batch, auxiliary=greedy, completion=written)))
    rewards = batch.rewards.view(3, 4)
    torch.testing.assert_close(found[:3], rewards[0, :3] - rewards[0, 3])
    torch.testing.assert_close(found[4:7], rewards[1, :3] - rewards[1, 3])
    assert found[8:].abs().max() == 0, "without a baseline nothing is learned"
