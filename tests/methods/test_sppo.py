"""SPPO: win rates among the completions of a prompt, and the regression onto them."""

from __future__ import annotations

import math

import method_batches as batches
import pytest
import torch
from rollout_batches import gradient, on_policy, random_rollouts

from align.functional.games import gains_by_rates, gains_by_scores
from align.lab.games import against, exploitability, rock_paper_scissors
from align.methods.base import of_completion
from align.methods.sppo import SPPO
from align.rewards.pairwise.oracle import from_scores, win_rates


def test_by_hand():
    # Scores log 3 and 0: the first wins with 3/4, so p = (3/4 + 1/2) / 2 = 5/8 and 3/8, and targets are +-1/8 / 0.25.
    method = SPPO(beta=0.25)
    batch = random_rollouts(method, size=2, rewards=torch.tensor([math.log(3), 0.0] * 3, dtype=torch.float64))
    batch = on_policy(method.advantages(batch))
    torch.testing.assert_close(of_completion(batch), torch.tensor([1 / 8, -1 / 8] * 3, dtype=torch.float64))
    assert batches.value(method.loss(batch)) == pytest.approx(0.25)  # (0 - 1/2)^2
    assert batches.mean_of(method.loss(batch), "residual") == pytest.approx(0.5)
    single = SPPO(beta=0.25, outcomes="single").advantages(batch)
    torch.testing.assert_close(of_completion(single), torch.tensor([1 / 4, -1 / 4] * 3, dtype=torch.float64))
    hard = SPPO(beta=0.25, outcomes="hard").advantages(batch)
    torch.testing.assert_close(of_completion(hard), torch.tensor([1 / 2, -1 / 2] * 3, dtype=torch.float64))


def test_gains_add_up_to_nothing_and_are_those_of_the_pairwise_reward():
    """Also in groups of unequal sizes whose rows do not stand together."""
    scores = torch.randn(9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    groups = torch.tensor([0, 1, 1, 2, 0, 2, 2, 2, 3])
    found = gains_by_scores(scores, groups)
    for group in range(4):
        rows = (groups == group).nonzero()[:, 0]
        assert abs(found[rows].sum()) < 1e-15
        rates = win_rates(from_scores(scores[rows].tolist(), "logistic", 1.0))
        told = torch.tensor([0.5 if r is None else r for r in rates], dtype=torch.float64)
        torch.testing.assert_close(gains_by_rates(told, torch.zeros(len(rows), dtype=torch.long)), found[rows])
    assert found[8] == 0, "it is even with itself"


def test_on_policy_the_two_of_a_pair_are_pushed_apart_equally():
    """-+ (p - 1/2) / (beta B), B pairs; p_w + p_l = 1 where there are two."""
    method = SPPO(beta=0.1)
    batch = on_policy(method.advantages(random_rollouts(method, size=2)))
    found, gains = gradient(method, batch), of_completion(batch)
    mask = batch.completion.mask
    torch.testing.assert_close(found, (-gains / (0.1 * 3))[:, None] * mask)
    torch.testing.assert_close(found[::2, 0], -found[1::2, 0])


def test_the_gradient_is_the_residual_of_each_completion():
    method = SPPO(beta=0.1)
    batch = method.advantages(random_rollouts(method, size=2))
    written = batch.completion
    moved = ((written.logps - written.old_logps) * written.mask).sum(-1)
    wanted = ((moved - of_completion(batch) / 0.1) / 3)[:, None] * written.mask
    torch.testing.assert_close(gradient(method, batch), wanted.detach())


def test_what_is_learned_from():
    scores = torch.tensor([1.0, 3.0, 3.0, 0.0] + [2.0] * 4 + [5.0, -1.0, -1.0, 5.0]).double()
    for method, kept in ((SPPO(), [1, 3, 8, 9]), (SPPO(learned="all"), list(range(12)))):
        batch = random_rollouts(method, rewards=scores)
        assert method.keep(batch).nonzero()[:, 0].tolist() == kept
    single = SPPO(outcomes="single").advantages(random_rollouts(SPPO(), rewards=scores))
    assert (of_completion(single) != 0).nonzero()[:, 0].tolist() == [1, 3, 8, 9]


def test_equal_scores_teach_nothing():
    method = SPPO(learned="all")
    batch = on_policy(method.advantages(random_rollouts(method, rewards=torch.ones(12).double())))
    assert batches.value(method.loss(batch)) == 0
    assert not gradient(method, batch).any()


def test_cycles_are_seen_in_win_rates_alone():
    """Each of rock, paper and scissors wins half the time, which no scores with an order could say."""
    method = SPPO(reward_is="win_rate", learned="all")
    rates = torch.tensor(win_rates(rock_paper_scissors(3, 0.4).numpy()), dtype=torch.float64)
    batch = method.advantages(random_rollouts(method, size=3, rewards=rates.repeat(3)))
    assert of_completion(batch).abs().max() < 1e-15
    assert method.wants_rates
    assert SPPO().wants_rates is False


def test_the_average_of_self_play_comes_to_the_equilibrium_of_a_cycle():
    """O(1 / sqrt T) with eta ~ 1 / sqrt T, while the last one goes round."""
    game = rock_paper_scissors(3, 0.5)
    found: list[float] = []
    for steps in (16, 256):
        policy = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64).log()
        total = torch.zeros(3, dtype=torch.float64)
        for _ in range(steps):
            total += policy.exp() / steps
            policy = (policy + 4 / math.sqrt(steps) * against(game, policy)).log_softmax(-1)
        found.append(float(exploitability(game, total.log(), policy, 0.0)))
    assert found[1] < found[0] / 3


@pytest.mark.parametrize(
    "knobs",
    [{"outcomes": "hard", "learned": "all"}, {"outcomes": "single", "reward_is": "win_rate"}, {"beta": (0.1, 0.0)}],
)
def test_knobs_that_do_not_go_together_are_refused(knobs: dict[str, str]):
    with pytest.raises(ValueError, match="it must be"):
        SPPO(**knobs)  # type: ignore[arg-type]
