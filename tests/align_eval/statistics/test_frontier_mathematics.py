"""Envelopes and anytime-valid evidence."""

from __future__ import annotations

import math

import numpy as np
import pytest

from align_eval.statistics.divergence import envelope, gao_fit, overoptimised, shared_range
from align_eval.statistics.sequential import log_evidence, log_needed, lower_bound, weight


def test_an_envelope_keeps_what_nothing_beats():
    found = envelope([4.0, 1.0, 2.0, 3.0], [2.0, 1.0, 3.0, 2.5])
    assert found.kl == (1.0, 2.0)
    assert found.reward == (1.0, 3.0)
    assert found.at(1.5) == 2.0  # half way
    assert found.at(3.5) == 3.0  # the checkpoint at 2 is there to be taken
    assert found.at(0.9) is None
    assert found.at(4.1) is None  # nobody has been there


def test_runs_meet_where_both_have_been():
    one, other = envelope([1.0, 3.0], [0.0, 1.0]), envelope([2.0, 5.0], [0.0, 1.0])
    assert shared_range(one, other) == (2.0, 3.0)
    assert shared_range(one, envelope([4.0], [1.0])) is None
    assert shared_range(one, envelope([], [])) is None


def test_over_optimisation_is_where_the_reward_falls():
    assert overoptimised([1.0, 2.0, 3.0], [1.0, 2.0, 1.5]) == (2.0, 2.0)
    assert overoptimised([1.0, 2.0, 3.0], [1.0, 2.0, 2.5]) is None
    assert overoptimised([], []) is None


@pytest.mark.parametrize("best_of_n", [False, True])
def test_the_law_of_over_optimisation_is_found_again(best_of_n: bool):
    kl = np.linspace(0.1, 30, 12)
    d = np.sqrt(kl)
    gold = d * (1.3 - 0.2 * (d if best_of_n else np.log(d)))
    assert gao_fit(list(kl), list(gold), best_of_n=best_of_n) == pytest.approx((1.3, 0.2))


def test_evidence_by_hand():
    # every bet is lost or won once: prod (1 + l)(1 - l) < 1
    assert log_evidence(np.array([1.0, -1.0]), 0.0) < 0
    assert log_evidence(np.array([]), 0.0) == 0.0
    assert log_evidence(np.ones(100), 0.0) > log_needed(50)
    assert log_evidence(np.array([0.5]), -1.0) == math.inf  # the mean is above the least possible value
    assert log_evidence(np.array([0.5]), 1.0) == -math.inf
    with pytest.raises(ValueError, match="expected -1 to 1"):
        log_evidence(np.array([2.0]), 0.0)


def test_evidence_is_fair_and_does_not_ask_for_an_order():
    random = np.random.default_rng(0)
    values = random.choice([-1.0, 0.0, 1.0], size=(4000, 30))
    found = [math.exp(log_evidence(row, 0.0)) for row in values]
    assert np.mean(found) == pytest.approx(1.0, abs=0.15)
    assert np.mean(np.array(found) >= 20) < 0.05
    assert log_evidence(values[0][::-1], 0.0) == pytest.approx(log_evidence(values[0], 0.0))


def test_weights_of_looks_add_up_to_one():
    assert sum(weight(k) for k in range(1, 100_000)) == pytest.approx(1.0, abs=1e-4)
    assert log_needed(1) == pytest.approx(math.log(40))
    assert log_needed(50) == pytest.approx(math.log(20 * 50 * 51))


def test_the_lower_bound_is_where_the_evidence_is_as_asked():
    random = np.random.default_rng(0)
    values = np.where(random.random(400) < 0.65, 1.0, -1.0)
    bound = lower_bound(values, log_needed(1))
    assert 0 < bound < values.mean()
    assert log_evidence(values, bound) == pytest.approx(log_needed(1), abs=1e-4)
    assert lower_bound(np.array([]), log_needed(1)) == -1.0
