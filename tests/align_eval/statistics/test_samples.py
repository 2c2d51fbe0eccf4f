"""pass@k, pass^k, maj@k and best-of-k against golden vectors, brute force and each other."""

from __future__ import annotations

import json
import math
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from align_eval.statistics.divergence import divergence
from align_eval.statistics.samples import best_of_k, best_of_k_kl, maj_at_k, pass_at_k, pass_hat_k

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parents[2] / "golden" / "passk_majk.json").read_text())


def test_pass_at_k():
    for row in GOLDEN["pass_at_k"]:
        n, c, k = row["n"], row["c"], row["k"]
        assert pass_at_k(n, c, k) == pytest.approx(row["pass_at_k"], rel=1e-9)
        assert pass_hat_k(n, c, k) == pytest.approx(row["pass_hat_k_all_correct"], rel=1e-9, abs=1e-10)


@pytest.mark.parametrize("tie", ["fractional", "first_seen", "pessimistic"])
def test_maj_at_k(tie: Any):
    for row in GOLDEN["maj_at_k"]:
        for k, value in row[f"maj_at_k_{tie}"].items():
            assert maj_at_k(row["answers"], {row["correct"]}, int(k), tie) == pytest.approx(value, rel=1e-9, abs=1e-10)


def test_best_of_k():
    told = GOLDEN["best_of_k"]
    for k, value in told["unbiased_expected_best_of_k"].items():
        assert best_of_k(told["rewards"], int(k)) == pytest.approx(value, rel=1e-9)
    for k, value in told["kl_formula_log_k_minus_k_minus_1_over_k"].items():
        assert best_of_k_kl(int(k)) == pytest.approx(value, rel=1e-9, abs=1e-10)


def test_estimators_of_divergence():
    told = GOLDEN["kl_estimators"]
    found = divergence(*(np.array(told[key]) for key in ("logp", "ref_logp", "mask")))
    np.testing.assert_allclose(found.sequences, told["k1_sequence_sum"], rtol=1e-9)
    assert found.mean == pytest.approx(told["k1_sequence_sum_mean"], rel=1e-9)
    for key in ("k1", "k2", "k3"):
        assert getattr(found, key) == pytest.approx(told[f"{key}_token_mean"], rel=1e-9)


def test_what_holds_exactly():
    for n, c in ((7, 0), (7, 3), (7, 7)):
        chain = [pass_at_k(n, c, k) for k in range(1, n + 1)]
        assert chain[0] == pytest.approx(c / n)
        assert chain[-1] == float(c > 0)
        assert chain == sorted(chain)
        assert all(pass_hat_k(n, c, k) <= c / n + 1e-15 for k in range(1, n + 1))
    answers, rewards = ["a", "b", "a", None], [3.0, 1.0, 2.0]
    assert maj_at_k(answers, {"a"}, 1) == 0.5  # None has no vote
    assert maj_at_k([None, None], {"a"}, 2) == 0.0
    assert best_of_k(rewards, 1) == 2.0
    assert best_of_k(rewards, 3) == 3.0


def test_best_of_k_is_the_mean_over_subsets_and_maj_too():
    random = np.random.default_rng(0)
    rewards = list(random.normal(size=8))
    assert best_of_k(rewards, 3) == pytest.approx(np.mean([max(s) for s in combinations(rewards, 3)]))
    answers = [str(x) for x in random.integers(4, size=25)]
    drawn = maj_at_k(answers, {"0"}, 9)  # 2,042,975 subsets: drawn
    assert drawn == maj_at_k(answers, {"0"}, 9)
    draws = (random.permutation(25)[:9] for _ in range(4000))
    exact = np.mean([maj_at_k([answers[i] for i in sorted(some)], {"0"}, 9) for some in draws])
    assert drawn == pytest.approx(exact, abs=0.03)


def test_large_numbers_do_not_overflow():
    assert pass_at_k(10_000, 1, 100) == pytest.approx(0.01)  # the right one is among 100 of 10,000
    assert pass_at_k(10_000, 9_950, 60) == 1.0


@pytest.mark.parametrize("call", [lambda: pass_at_k(3, 1, 4), lambda: pass_at_k(3, 4, 1), lambda: best_of_k([], 1)])
def test_impossible_numbers(call: Any):
    with pytest.raises(ValueError, match="expected"):
        call()


def test_k3_is_never_negative_and_all_vanish_where_policies_agree():
    random = np.random.default_rng(0)
    logps, mask = random.normal(-2, 1, size=(4, 9)), np.ones((4, 9))
    found = divergence(logps, logps, mask)
    assert (found.mean, found.k1, found.k2, found.k3) == (0, 0, 0, 0)
    assert divergence(logps, random.normal(-2, 1, size=(4, 9)), mask).k3 > 0
    junk = np.where(np.eye(4, 9) > 0, math.nan, logps)
    assert divergence(junk, logps, 1 - np.eye(4, 9)).k1 == 0  # what is under the mask does not count
    with pytest.raises(ValueError, match="no token"):
        divergence(logps, logps, mask * 0)
