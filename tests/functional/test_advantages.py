"""Advantages by their properties, and generalised advantage estimation against its definition."""

from __future__ import annotations

import math

import pytest
import torch

from align.functional.advantages import (
    explained_variance,
    final_rewards,
    gae,
    group_means,
    group_normalised,
    group_spread,
    leave_one_out,
    rewards_to_go,
    whiten,
)

GROUPS = torch.tensor([0, 0, 0, 1, 1, 2])
REWARDS = torch.tensor([1.0, 2.0, 6.0, 5.0, 3.0, 7.0])
MASK = torch.tensor([[True, True, False, True], [True, False, False, False], [False, False, False, False]])
BETWEEN = torch.tensor([[1.0, 2.0, 99.0, 3.0], [4.0, 99.0, 99.0, 99.0], [99.0] * 4])


def test_leave_one_out_is_the_reward_less_the_mean_of_the_others():
    assert leave_one_out(REWARDS, GROUPS).tolist() == [1 - 4, 2 - 3.5, 6 - 1.5, 2, -2, 0]


def test_groups_need_not_stand_side_by_side():
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    mixed = leave_one_out(REWARDS[order], GROUPS[order])
    torch.testing.assert_close(mixed, leave_one_out(REWARDS, GROUPS)[order])
    assert group_means(REWARDS, GROUPS).tolist() == [3, 3, 3, 4, 4, 7]
    assert group_spread(REWARDS, GROUPS).tolist() == [5, 5, 5, 2, 2, 0]


def test_a_group_without_spread_is_exactly_zero():
    equal = torch.full((4,), 0.1) + torch.tensor(0.2)  # rounding would be magnified by 1 / eps
    assert group_normalised(equal, torch.zeros(4, dtype=torch.long)).tolist() == [0, 0, 0, 0]


def test_two_completions_are_always_one_over_root_two_apart_from_their_mean():
    for gap in (0.01, 1.0, 300.0):
        found = group_normalised(torch.tensor([0.0, gap]), torch.zeros(2, dtype=torch.long), eps=0.0)
        assert found.tolist() == pytest.approx([-(0.5**0.5), 0.5**0.5])


def discounted(row: list[float], gamma: float) -> list[float]:
    return [sum(gamma ** (k - t) * row[k] for k in range(t, len(row))) for t in range(len(row))]


def test_gae_steps_over_what_is_not_kept():
    """With lam 1 an advantage is the discounted sum of what follows, less the value; t counts kept tokens."""
    values = torch.full_like(BETWEEN, 0.5)
    found = gae(BETWEEN, values, MASK, gamma=0.9, lam=1.0)
    wanted = discounted([1.0, 2.0, 3.0], 0.9)
    assert found[0, [0, 1, 3]].tolist() == pytest.approx([w - 0.5 for w in wanted])
    assert found[~MASK].abs().max() == 0


def test_gae_at_lam_0_is_the_error_of_one_step():
    values = torch.tensor([[1.0, 2.0, 50.0, 4.0], [1.0, 50.0, 50.0, 50.0], [50.0] * 4])
    found = gae(BETWEEN, values, MASK, gamma=0.5, lam=0.0)
    assert found[0, [0, 1, 3]].tolist() == [1 + 0.5 * 2 - 1, 2 + 0.5 * 4 - 2, 3 - 4]
    assert found[1, 0] == 4 - 1


def test_returns_at_lam_1_do_not_depend_on_the_values():
    one, other = torch.randn(3, 4), torch.randn(3, 4)
    returns = [gae(BETWEEN, v, MASK, 1.0, 1.0) + v.masked_fill(~MASK, 0.0) for v in (one, other)]
    torch.testing.assert_close(*returns)


def test_junk_between_tokens_has_no_influence():
    clean = gae(BETWEEN, torch.zeros(3, 4), MASK, 1.0, 0.9)
    junk = torch.where(MASK, torch.zeros(3, 4), torch.tensor(float("nan")))
    spoilt = gae(torch.where(MASK, BETWEEN, torch.tensor(float("inf"))), junk, MASK, 1.0, 0.9)
    assert torch.equal(clean, spoilt)


def test_rewards_to_go_and_the_last_token():
    assert rewards_to_go(BETWEEN, MASK).tolist() == [[6, 5, 0, 3], [4, 0, 0, 0], [0, 0, 0, 0]]
    assert final_rewards(torch.tensor([7.0, 8.0, 9.0]), MASK).tolist() == [[0, 0, 0, 7], [8, 0, 0, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize("unbiased", [False, True])
def test_whitening(unbiased: bool):
    white = whiten(BETWEEN, MASK, unbiased=unbiased)
    kept = white[MASK]
    assert kept.mean().item() == pytest.approx(0.0, abs=1e-6)
    assert kept.var(correction=int(unbiased)).item() == pytest.approx(1.0, abs=1e-5)
    assert white[~MASK].abs().max() == 0
    torch.testing.assert_close(whiten(5 + 3 * BETWEEN, MASK, unbiased=unbiased), white)
    stays = whiten(BETWEEN, MASK, shift_mean=False, unbiased=unbiased)[MASK].mean().item()
    assert stays == pytest.approx(BETWEEN[MASK].mean().item(), rel=1e-5)


def test_explained_variance_of_a_perfect_a_constant_and_a_wrong_critic():
    returns, mask = torch.tensor([[1.0, 2.0, 9.0], [3.0, 4.0, 5.0]]), torch.tensor([[True, True, False], [True] * 3])
    assert explained_variance(returns, returns, mask) == 1.0
    assert explained_variance(returns + 7.0, returns, mask) == pytest.approx(1.0)  # a shift is not variance
    assert explained_variance(torch.zeros(2, 3), returns, mask) == 0.0
    assert explained_variance(-returns, returns, mask) == pytest.approx(-3.0)
    assert math.isnan(explained_variance(returns, torch.ones(2, 3), mask))  # nothing is to be foreseen


@pytest.mark.parametrize("value", [0.1, 10.1, 100.1, 1000.1])
def test_equal_values_are_worth_nothing_whatever_rounding_makes_of_their_mean(value: float):
    values, mask = torch.full((16, 48), value), torch.ones(16, 48, dtype=torch.bool)
    assert whiten(values, mask).abs().max() < 1e-5
