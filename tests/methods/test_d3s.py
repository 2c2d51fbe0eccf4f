"""D3S by what it leaves out."""

from __future__ import annotations

import itertools

import method_batches as batches
import pytest
import torch
from rollout_batches import gradient, random_rollouts

from align.functional.selection import largest, most_varied
from align.methods.d3s import D3S
from align.methods.dapo import DAPO

ALL = {"first_completions": 1.0, "last_completions": 1.0, "first_tokens": 1.0, "last_tokens": 1.0}


def test_with_everything_left_it_is_grpo_over_tokens():
    ours, theirs = D3S(**ALL), DAPO(clip_low=0.2, clip_high=0.2)
    batch = random_rollouts(ours)
    mine, other = ours.advantages(batch), theirs.advantages(batch)
    assert torch.equal(ours.keep(mine), batch.completion.mask)
    torch.testing.assert_close(gradient(ours, mine), gradient(theirs, other))
    assert batches.value(ours.loss(mine)) == pytest.approx(batches.value(theirs.loss(other)))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 9])
def test_no_other_choice_varies_more(count: int, seed: int):
    values = torch.randn(9, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    chosen = most_varied(values, count)
    assert chosen.sum() == count
    best = max(values[list(rows)].var(correction=0).item() for rows in itertools.combinations(range(9), count))
    assert values[chosen].var(correction=0).item() == pytest.approx(best, abs=1e-12)
    if count % 2 == 0:
        assert best >= values.var(correction=0).item()


def test_an_odd_choice_may_vary_less_than_the_whole():
    values = torch.tensor([1.0, 1.0, -1.0, -1.0])
    assert values[most_varied(values, 3)].var(correction=0).item() == pytest.approx(8 / 9)


def test_the_choice_does_not_hang_on_the_order():
    values = torch.randn(12, generator=torch.Generator().manual_seed(1))
    order = torch.randperm(12, generator=torch.Generator().manual_seed(2))
    assert torch.equal(most_varied(values[order], 5), most_varied(values, 5)[order])


def test_of_equal_tokens_the_first_stay():
    scores, mask = torch.ones(2, 5), torch.tensor([[True] * 5, [False, True, True, True, True]])
    assert largest(scores, mask, 0.5).tolist() == [[True] * 5, [False] * 5]  # 4.5 of 9, rounded up
    assert largest(scores, mask, 0.2).sum() == 2
    assert largest(torch.full((1, 10), 0.3), torch.ones(1, 10, dtype=torch.bool), 0.3).sum() == 3


def test_tokens_that_count_are_those_at_which_the_policy_hesitated():
    method = D3S(first_completions=0.5, last_completions=0.5, first_tokens=0.25, last_tokens=0.25)
    batch = method.advantages(random_rollouts(method))
    kept = method.keep(batch)
    rows = kept.any(-1)
    scores = batch.advantages.abs() * batch.completion.old_entropies
    left_out = batch.completion.mask & rows[:, None] & ~kept
    assert scores[kept].min() >= scores[left_out].max()
    assert rows.sum() <= 6


def test_the_shares_go_from_the_first_to_the_last_and_stay():
    method = D3S(first_completions=0.2, last_completions=0.8, first_tokens=0.1, last_tokens=0.5, horizon=4)
    seen = []
    for _ in range(7):
        seen.append(method.shares())
        method = D3S(
            first_completions=0.2, last_completions=0.8, first_tokens=0.1, last_tokens=0.5, horizon=4,
            **method.controllers(random_rollouts(method)),
        )  # fmt: skip
    assert [s[0] for s in seen] == pytest.approx([0.2, 0.35, 0.5, 0.65, 0.8, 0.8, 0.8])
    assert [s[1] for s in seen] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.5, 0.5])


def test_of_equal_completions_the_first_stay_at_both_ends():
    values = torch.tensor([1.0, 1.0, 1.0, -1.0, -1.0, -1.0])
    assert most_varied(values, 2).nonzero()[:, 0].tolist() == [0, 3]
    assert most_varied(torch.zeros(5), 3).nonzero()[:, 0].tolist() == [0, 1, 2]
