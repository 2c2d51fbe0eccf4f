"""Intervals by hand, by scipy, and by what they must hold."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from align_eval.statistics.estimate import Estimate
from align_eval.statistics.resampling import (
    Resampling,
    by_unit,
    difference,
    draws,
    mean,
    ratio,
    tails,
)
from align_eval.statistics.shares import discord, share, wilson


def ends(found: Estimate) -> tuple[float, float]:
    assert found.low is not None
    assert found.high is not None
    return found.low, found.high


@pytest.mark.parametrize(("k", "n"), [(0, 10), (3, 10), (10, 10), (647, 1000)])
def test_wilson_is_that_of_scipy(k: int, n: int):
    told = stats.binomtest(k, n).proportion_ci(method="wilson")
    assert ends(wilson(k, n)) == pytest.approx((told.low, told.high), abs=1e-12)
    assert wilson(k, n).method == "Wilson"


def test_nothing_has_no_value_and_says_why():
    for found in (wilson(0, 0), share(np.array([])), mean(np.array([])), discord(np.array([]))):
        assert found.value is None
        assert found.why


def test_shares_of_yes_and_no_are_wilson_and_of_halves_agresti_coull():
    assert ends(share(np.array([1.0, 0, 0, 0]))) == ends(wilson(1, 4))
    # 1, 1/2, 1/2, 0, and z^2 / 2 = 1.9207 of 0 and of 1: centre 1/2 of 7.8415; squares (2 * 1/4 + 2 * 1.9207 / 4)
    z2 = stats.norm.ppf(0.975) ** 2
    half = math.sqrt(z2) * math.sqrt((0.5 + z2 / 4) / (4 + z2)) / math.sqrt(4 + z2)
    assert ends(share(np.array([1.0, 0.5, 0.5, 0.0]))) == pytest.approx((0.5 - half, 0.5 + half))
    tied = share(np.full(100, 0.5))  # ties alone do not make it certain
    assert ends(tied)[0] == pytest.approx(0.5 - (ends(tied)[1] - 0.5))
    assert 0.01 < ends(tied)[1] - 0.5 < 0.03
    with pytest.raises(ValueError, match="expected 0 to 1"):
        share(np.array([1.5]))


def test_paired_yes_and_no_by_hand():
    # 5 up, 1 down, 14 alike: (5 - 1) / 22 +- z sqrt((6 + 2) / 22 - (4 / 22)^2) / sqrt(22)
    found = discord(np.array([1.0] * 5 + [-1.0] + [0.0] * 14))
    half = stats.norm.ppf(0.975) * math.sqrt((8 / 22 - (4 / 22) ** 2) / 22)
    assert found.value == 0.2
    assert ends(found) == pytest.approx((4 / 22 - half, 4 / 22 + half))


def test_units_are_averaged_first():
    np.testing.assert_allclose(by_unit([1.0, 0.0, 1.0, 1.0], ["p", "p", "q", "p"]), [2 / 3, 1.0])


def test_a_bootstrap_of_a_mean_is_that_of_student():
    """At n = 40 and many resamples the expanded percentile interval of a mean is nearly the t interval."""
    values = np.random.default_rng(3).normal(size=40)
    found = mean(values, Resampling(num=20_000, seed=1))
    told = stats.t.interval(0.95, 39, values.mean(), values.std(ddof=1) / math.sqrt(40))
    assert ends(found) == pytest.approx(told, abs=0.01)
    low, high = tails(40, 0.95)
    assert low < 2.5 < 97.5 < high
    assert tails(10**6, 0.95) == pytest.approx((2.5, 97.5), abs=1e-3)


def test_draws_are_whole_samples_and_repeat_with_the_seed():
    how = Resampling(num=7, seed=4)
    first, again = (np.concatenate(list(draws(5, how))) for _ in range(2))
    assert first.shape == (7, 5)
    assert (first.sum(1) == 5).all()
    np.testing.assert_array_equal(first, again)
    assert (first != np.concatenate(list(draws(5, Resampling(num=7, seed=5))))).any()


def test_blocks_do_not_change_the_draws(monkeypatch: pytest.MonkeyPatch):
    whole = np.concatenate(list(draws(6, Resampling(num=20))))
    monkeypatch.setattr("align_eval.statistics.resampling.CHUNK", 13)
    np.testing.assert_array_equal(np.concatenate(list(draws(6, Resampling(num=20)))), whole)


def test_pairing_takes_out_what_both_share():
    random = np.random.default_rng(0)
    prompt = random.normal(size=200) * 10
    ours, theirs = prompt + 1 + random.normal(size=200) * 0.1, prompt
    low, high = ends(difference(ours, theirs))
    assert 0.9 < low < high < 1.1
    assert np.ptp(ends(mean(ours))) > 2


def test_a_ratio_of_sums():
    found = ratio(np.array([1.0, 2.0, 3.0, 6.0]), np.array([2.0, 4.0, 6.0, 4.0]))
    assert found.value == 12 / 16
    low, high = ends(found)
    assert 0.5 <= low < 0.75 < high <= 1.5
    assert ratio(np.zeros(3), np.zeros(3)).why == "is not defined"


def test_what_has_no_interval_says_why():
    assert "one prompt" in mean(np.array([2.0])).why
    same = mean(np.full(9, 2.0))
    assert (same.value, same.low) == (2.0, None)
    assert "same value" in same.why
    assert "seed 0" in mean(np.arange(9.0)).method


def test_settings_are_held_to_sense():
    with pytest.raises(ValueError, match="level"):
        Resampling(level=95)
