"""Tests of differences against scipy, hand and enumeration."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from align_eval.statistics.tests import bh, detectable, holm, permutation, sign_test


def test_the_sign_test_by_hand():
    # 9 of 10: two-sided, (1 + 10) * 2 / 1024
    assert sign_test(9, 1) == pytest.approx(22 / 1024)
    assert sign_test(0, 0) == 1.0
    assert sign_test(5, 5) == 1.0


def test_few_units_are_enumerated():
    # 1, 2, 3: only +++ and --- are as far from 0 as 6, of 8
    assert permutation(np.array([1.0, 2.0, 3.0, 0.0])) == 2 / 8
    assert permutation(np.zeros(5)) == 1.0


def test_many_units_are_drawn():
    random = np.random.default_rng(0)
    values = random.normal(0.1, 1, size=80)
    told = stats.permutation_test((values,), np.mean, permutation_type="samples", n_resamples=20_000, rng=random)
    assert permutation(values) == pytest.approx(float(told.pvalue), abs=0.02)
    assert permutation(values) == permutation(values)
    assert permutation(values + 10) == pytest.approx(1e-4)  # never 0


def test_halves_are_compared_without_rounding():
    values = np.array([0.1] * 10 + [-0.1] * 10)
    assert permutation(values) == 1.0


def test_the_detectable_difference_is_found_four_times_in_five():
    random = np.random.default_rng(0)
    gap = detectable(random.normal(size=400))
    assert gap == pytest.approx((1.95996 + 0.84162) / 20, rel=0.1)
    tried = random.normal(gap, 1, size=(2000, 400))
    z = tried.mean(1) / tried.std(1, ddof=1) * 20
    assert (np.abs(z) > 1.96).mean() == pytest.approx(0.8, abs=0.06)
    assert detectable(np.zeros(5)) is None
    assert detectable(np.array([1.0])) is None


def test_holm_by_hand():
    # sorted .005 * 4, .01 * 3, .03 * 2, .04 * 1, each at least as large as the one before
    assert holm([0.01, 0.04, None, 0.03, 0.005]) == pytest.approx([0.03, 0.06, None, 0.06, 0.02])


def test_bh_is_that_of_scipy():
    values = [0.01, 0.04, 0.03, 0.005, 0.9]
    assert bh(values) == pytest.approx(list(stats.false_discovery_control(values)))
    assert bh([None, 0.2]) == [None, 0.2]
    assert holm([]) == bh([]) == []
    assert not math.isnan(sum(bh(values)))  # type: ignore[arg-type]
