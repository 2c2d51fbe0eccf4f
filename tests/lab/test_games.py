"""Games whose equilibrium is known: what finds it, how fast, and what it is worth to exploit a policy."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from align.lab.games import (
    against,
    divergence,
    equilibrium,
    exploitability,
    mirror_prox,
    nash,
    proximal_step,
    random_game,
    rock_paper_scissors,
    transitive_game,
)

UNIFORM = torch.full((3,), 1 / 3, dtype=torch.float64).log()


def policy(seed: int, *shape: int) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=draw, dtype=torch.float64).log_softmax(-1)


@pytest.mark.parametrize("beta", [0.05, 0.5])
def test_mirror_prox_is_under_its_bound_at_every_step_of_a_hundred_games(beta: float):
    """KL(pi* | pi_k) <= (1 + 2 beta)^-k KL(pi* | ref), whatever the number of actions."""
    for num_actions in (3, 16):
        game, eta = random_game(num_actions, num_actions, 50), 2 * beta
        reference = (2 * policy(1, 50, num_actions)).log_softmax(-1)
        star, current = equilibrium(game, reference, beta), reference
        bound = divergence(star, reference)
        for _ in range(30):
            before = current
            current, ahead = mirror_prox(game, current, reference, beta, eta)
            bound = bound / (1 + eta)
            assert (divergence(star, current) <= bound + 1e-12).all()
            assert (divergence(ahead, star) <= divergence(star, before) / eta + 1e-12).all()


def test_an_equilibrium_answers_itself_and_cannot_be_exploited():
    game, reference = random_game(6, 0, 4), policy(2, 4, 6)
    star = equilibrium(game, reference, 0.2)
    torch.testing.assert_close(proximal_step(star, reference, against(game, star), 0.2, 3.0), star)
    assert exploitability(game, star, reference, 0.2).abs().max() < 1e-12
    assert (exploitability(game, policy(3, 4, 6), reference, 0.2) > 1e-3).all()


def test_prompts_are_games_of_their_own():
    games, reference = random_game(4, 1, 3), policy(4, 3, 4)
    together = equilibrium(games, reference, 0.3)
    alone = torch.stack([equilibrium(g, r, 0.3) for g, r in zip(games, reference, strict=True)])
    torch.testing.assert_close(together, alone)


def test_where_worth_decides_the_equilibrium_is_that_of_a_reward():
    worths = torch.tensor([0.1, 0.4, 0.25, 0.0], dtype=torch.float64)
    reference = policy(5, 4)
    star = equilibrium(transitive_game(worths), reference, 0.2)
    torch.testing.assert_close(star, (reference + worths / 0.2).log_softmax(-1))
    same = transitive_game(torch.zeros(4, dtype=torch.float64))
    torch.testing.assert_close(mirror_prox(same, reference, reference, 0.2, 0.4)[0], reference)


def test_a_cycle_has_no_best_action():
    game = rock_paper_scissors(5, 0.3)
    torch.testing.assert_close(game[:, 0], torch.tensor([0.5, 0.8, 0.8, 0.2, 0.2], dtype=torch.float64))
    torch.testing.assert_close(nash(game), torch.full((5,), 0.2, dtype=torch.float64))
    single = torch.tensor([0.0, -math.inf, -math.inf, -math.inf, -math.inf], dtype=torch.float64)
    assert float(exploitability(game, single, single, 0.0)) == pytest.approx(0.3)
    star = equilibrium(rock_paper_scissors(), UNIFORM, 0.1)
    torch.testing.assert_close(star, UNIFORM)


@pytest.mark.parametrize("num_actions", [1, 2, 3, 4, 7, 12])
def test_nothing_beats_the_equilibrium_without_a_price(num_actions: int):
    for seed in range(20):
        game = random_game(num_actions, seed)
        found = nash(game)
        assert found.min() >= 0
        assert found.sum() == pytest.approx(1)
        assert (game @ found).max() <= 0.5 + 1e-12


def test_games_are_constant_sum_and_actions_have_no_order():
    game = random_game(5, 7)
    torch.testing.assert_close(game + game.T, torch.ones_like(game))
    order, reference = torch.tensor([3, 1, 4, 0, 2]), policy(6, 5)
    shuffled = equilibrium(game[order][:, order], reference[order], 0.1)
    torch.testing.assert_close(shuffled, equilibrium(game, reference, 0.1)[order])


def test_steps_do_not_hang_on_constants_of_logits():
    game, reference, centre = random_game(5, 8), policy(7, 5), policy(8, 5)
    won = against(game, centre)
    moved = proximal_step(centre + 3, reference - 2, won + 1, 0.1, 0.7)
    torch.testing.assert_close(moved, proximal_step(centre, reference, won, 0.1, 0.7))


def test_mirror_prox_is_extragradient_with_another_name_for_its_step():
    """T(theta, o) = (1 - eta beta) theta + eta beta (ref + P o / beta), twice from one centre (arXiv:2503.08942)."""
    game, reference, beta, eta = random_game(5, 9), policy(9, 5), 0.3, 0.6
    theirs = eta / (beta * (1 + eta))
    current = theta = reference

    def trial(centre: Tensor, opponent: Tensor) -> Tensor:
        damped = (1 - theirs * beta) * centre + theirs * beta * (reference + against(game, opponent) / beta)
        return damped.log_softmax(-1)

    for _ in range(5):
        current, _ = mirror_prox(game, current, reference, beta, eta)
        theta = trial(theta, trial(theta, theta))
        torch.testing.assert_close(current, theta)
