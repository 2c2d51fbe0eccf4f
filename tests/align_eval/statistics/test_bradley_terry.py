"""Strengths against golden vectors, two independent packages, and what must hold exactly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import choix
import evalica
import numpy as np
import pytest

from align.errors import RunError
from align_eval.statistics import bradley_terry as bt
from align_eval.statistics.many_fits import fit_many


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    return json.loads((Path(__file__).parents[2] / "golden" / "bradley_terry.json").read_text())


@pytest.fixture(scope="module")
def wins(golden: dict[str, Any]) -> np.ndarray:
    return np.array(golden["inputs"]["wins"])


@pytest.fixture(scope="module")
def ties(golden: dict[str, Any]) -> np.ndarray:
    return np.array(golden["inputs"]["ties"])


def test_the_maximum_without_ties(golden: dict[str, Any], wins: np.ndarray):
    told = golden["outputs"]["wins_only_mle"]
    found = bt.fit(wins, prior=False, tolerance=1e-14)
    np.testing.assert_allclose(found.strengths, told["strength_geometric_mean_1"], rtol=1e-10)
    np.testing.assert_allclose(found.logs, told["log_strength"], rtol=1e-10)
    assert bt.log_likelihood(wins, found) == pytest.approx(told["loglik"], rel=1e-10)
    assert found.iterations == pytest.approx(told["iterations_to_1e-14"]["newman_async"], abs=1)
    matrix = golden["outputs"]["win_probability_matrix_wins_only"]
    np.testing.assert_allclose(bt.win_probabilities(found), matrix, rtol=1e-10)


@pytest.mark.parametrize("way", ["newman_async", "newman_sync", "zermelo_sync"])
def test_iterates_one_by_one(golden: dict[str, Any], wins: np.ndarray, way: str):
    sweep = {
        "newman_async": lambda pi: bt.newman(wins, pi),
        "newman_sync": lambda pi: bt.newman(wins, pi, in_place=False),
        "zermelo_sync": lambda pi: bt.zermelo(wins, pi),
    }[way]
    iterates = [np.ones(5)]
    while len(iterates) < 3 or np.abs(np.log(iterates[-1]) - np.log(iterates[-2])).max() >= 1e-14:
        iterates.append(sweep(iterates[-1]))
    np.testing.assert_allclose(iterates[1:4], golden["outputs"]["first_three_iterates_from_ones"][way], rtol=1e-10)
    assert len(iterates) - 1 == pytest.approx(golden["outputs"]["wins_only_mle"]["iterations_to_1e-14"][way], abs=1)


def test_the_prior(golden: dict[str, Any], wins: np.ndarray):
    told = golden["outputs"]["wins_only_map_logistic_prior"]
    found = bt.fit(wins, tolerance=1e-14)
    np.testing.assert_allclose(found.strengths, told["strength"], rtol=1e-10)
    assert found.iterations < 30  # plain sweeps need 187, for they find the scale slowly
    point = np.ones(5)
    for _ in range(told["iterations"]):
        point = bt.newman(wins, point, prior=True)
    np.testing.assert_allclose(point, told["strength"], rtol=1e-10)


def test_the_prior_keeps_an_undefeated_player_finite(golden: dict[str, Any]):
    told = golden["outputs"]["undefeated_player0_map"]
    wins = np.array(told["wins"])
    np.testing.assert_allclose(bt.fit(wins).strengths, told["strength"], rtol=1e-10)
    assert bt.never_lost(wins) == [0]
    assert bt.groups(wins, strong=False) == [[0, 1, 2, 3, 4]]
    assert len(bt.groups(wins, strong=True)) > 1
    with pytest.raises(RunError, match="have not all beaten each other"):
        bt.fit(wins, prior=False)


def test_many_games_do_not_make_the_prior_slow(wins: np.ndarray):
    assert bt.fit(wins * 1e5).iterations < 60


def test_ties_as_halves(golden: dict[str, Any], wins: np.ndarray, ties: np.ndarray):
    told = golden["outputs"]["ties_as_half_wins_mle"]
    found = bt.fit(wins + ties / 2, prior=False)
    np.testing.assert_allclose(found.strengths, told["strength_geometric_mean_1"], rtol=1e-10)
    assert bt.log_likelihood(wins + ties / 2, found) == pytest.approx(told["loglik"], rel=1e-10)


def test_ties_of_davidson(golden: dict[str, Any], wins: np.ndarray, ties: np.ndarray):
    told = golden["outputs"]["ties_davidson_mle"]
    found = bt.fit_davidson(wins, ties, prior=False, tolerance=1e-14)
    np.testing.assert_allclose(found.strengths, told["strength_geometric_mean_1"], rtol=1e-10)
    assert found.nu == pytest.approx(told["nu"], rel=1e-10)
    assert found.iterations == pytest.approx(told["iterations"], abs=1)
    assert bt.log_likelihood(wins, found, ties) == pytest.approx(told["loglik"], rel=1e-10)
    point = np.append(np.ones(5), told["start_nu"])
    for step in told["first_three"]:
        strengths, nu = bt.davidson(wins, ties, point)
        np.testing.assert_allclose(strengths, step["strength"], rtol=1e-10)
        assert nu == pytest.approx(step["nu"], rel=1e-10)
        point = np.append(strengths, nu)
    win, tie, _ = told["prob_win_tie_loss_player0_vs_player1"]
    assert bt.win_probabilities(found)[0, 1] == pytest.approx(win + tie / 2, rel=1e-10)


def test_davidson_without_ties_is_the_plain_model(wins: np.ndarray):
    found = bt.fit_davidson(wins, np.zeros((5, 5)), prior=False)
    assert found.nu == 0
    np.testing.assert_allclose(found.strengths, bt.fit(wins, prior=False).strengths, rtol=1e-12)


def test_resamples_of_the_golden_battles(golden: dict[str, Any], wins: np.ndarray, ties: np.ndarray):
    told = golden["outputs"]["bootstrap_map_half_win_ties"]
    battles = np.array(golden["inputs"]["battles_i_j_score_of_i"])
    tables = np.zeros((len(told["indices"]), 5, 5))
    for table, indices in zip(tables, told["indices"], strict=True):
        for i, j, score in battles[indices]:
            table[int(i), int(j)] += score
            table[int(j), int(i)] += 1 - score
    whole = bt.fit(wins + ties / 2)
    np.testing.assert_allclose(whole.logs - whole.logs.mean(), told["log_strength_centred_full"], atol=1e-10)
    found = fit_many(tables, None, whole.logs, 0.0)
    found -= found.mean(1, keepdims=True)
    np.testing.assert_allclose(found, told["log_strength_centred"], atol=1e-10)
    for level in (2.5, 97.5):
        np.testing.assert_allclose(np.percentile(found, level, axis=0), told[f"percentile_{level}"], atol=1e-10)


def test_newton_and_newman_agree_with_ties(wins: np.ndarray, ties: np.ndarray):
    slow = bt.fit_davidson(wins, ties)
    np.testing.assert_allclose(fit_many(wins[None], ties[None], np.zeros(5), 0.5)[0], slow.logs, atol=1e-10)
    none = fit_many(wins[None], ties[None] * 0, np.zeros(5), 0.5)[0]  # nu has no smallest value, and nothing breaks
    np.testing.assert_allclose(none, bt.fit(wins).logs, atol=1e-7)


def test_two_players_have_the_ratio_of_their_wins():
    found = bt.fit(np.array([[0.0, 6.0], [2.0, 0.0]]), prior=False)
    assert found.strengths[0] / found.strengths[1] == pytest.approx(3)


def test_a_balanced_round_robin_has_no_leader_and_wins_equal_expected_wins(wins: np.ndarray):
    np.testing.assert_allclose(bt.fit(np.ones((4, 4)) - np.eye(4), prior=False).strengths, 1)
    found = bt.fit(wins, prior=False)
    expected = ((wins + wins.T) * bt.win_probabilities(found)).sum(1)
    np.testing.assert_allclose(expected, wins.sum(1), rtol=1e-10)


@pytest.mark.parametrize("seed", range(5))
def test_evalica_and_choix_find_the_same(seed: int):
    random = np.random.default_rng(seed)
    wins = random.integers(1, 9, size=(7, 7)) * (1.0 - np.eye(7))
    ties = np.triu(random.integers(0, 5, size=(7, 7)), 1).astype(float)
    ties += ties.T
    ours = bt.fit(wins, prior=False).logs
    games = [(i, j) for i in range(7) for j in range(7) for _ in range(int(wins[i, j]))]
    np.testing.assert_allclose(ours, choix.ilsr_pairwise(7, games, alpha=0), atol=1e-7)
    left, right, winners = [], [], []
    for i in range(7):
        for j in range(7):
            for count, winner in ((wins[i, j], evalica.Winner.X), (ties[i, j] / 2, evalica.Winner.Draw)):
                rows = int(count * 2)  # every game twice, so that halves of ties are whole
                left, right = left + [str(i)] * rows, right + [str(j)] * rows
                winners += [winner] * rows
    theirs = evalica.newman(left, right, winners, tolerance=1e-14, limit=100_000)
    found = bt.fit_davidson(wins, ties, prior=False)
    logs = np.log(theirs.scores[[str(i) for i in range(7)]].to_numpy())
    np.testing.assert_allclose(found.logs, logs - logs.mean(), atol=1e-8)
