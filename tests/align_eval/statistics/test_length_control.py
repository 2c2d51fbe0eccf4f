"""Length control against golden vectors, and what must hold exactly."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import special

from align_eval.statistics.length_control import (
    CS,
    Gamed,
    Lengths,
    alpaca,
    alpaca_c,
    alpaca_error,
    alpaca_rows,
    controlled,
    shifted,
)
from align_eval.statistics.logistic import objective
from align_eval.statistics.resampling import Resampling

FEW = Resampling(num=50)


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    return json.loads((Path(__file__).parents[2] / "golden" / "lc_winrate.json").read_text())


@pytest.fixture(scope="module")
def rows(golden: dict[str, Any]) -> Lengths:
    given = golden["inputs"]
    stored = np.array(given["preference_1_to_2"])
    return Lengths(
        preferences=np.where(stored == 0, 1.5, stored) - 1, model=np.array(given["length_model"]),
        baseline=np.array(given["length_baseline"]), difficulty=np.array(given["instruction_difficulty"]),
    )  # fmt: skip


@pytest.fixture(scope="module")
def gamed(golden: dict[str, Any]) -> Gamed:
    given = golden["inputs"]["gamed"]
    return Gamed(
        shorter=np.array(given["std_delta_len"]), difficulty=np.array(given["instruction_difficulty"]),
        preferences=np.array(given["preference_0_to_1"]),
    )  # fmt: skip


def test_features(golden: dict[str, Any], rows: Lengths):
    told = golden["outputs"]
    assert rows.preferences.mean() * 100 == pytest.approx(told["raw_win_rate_percent"], rel=1e-9)
    np.testing.assert_allclose(rows.shorter, told["features_model"]["std_delta_len"], rtol=1e-7)
    np.testing.assert_allclose(np.tanh(rows.shorter), told["features_model"]["tanh_std_delta_len"], rtol=1e-7)


FITS = {
    "mle_no_gamed_no_l1": (False, math.inf), "mle_with_gamed_no_l1": (True, math.inf),
    "l1_with_gamed_C_0.05": (True, 0.05), "l1_with_gamed_C_1": (True, 1.0), "l1_with_gamed_C_100": (True, 100.0),
}  # fmt: skip


@pytest.mark.parametrize("name", FITS)
def test_fits(golden: dict[str, Any], rows: Lengths, gamed: Gamed, name: str):
    held, c = FITS[name]
    told, extra = golden["outputs"][name], gamed if held else None
    found = alpaca(rows, extra, c, FEW)
    fitted = list(found.coefficients.values())
    np.testing.assert_allclose(fitted, told["coef_length_difficulty_intercept"], rtol=1e-7)
    assert (found.estimate.value or 0) * 100 == pytest.approx(told["lc_win_rate_percent"], rel=1e-7)
    assert alpaca_error(rows, fitted) * 100 == pytest.approx(told["lc_standard_error_percent"], rel=1e-7)
    if "objective" in told:
        shape, targets, weights = alpaca_rows(rows, extra)
        assert objective(shape, targets, weights, np.array(fitted), c) == pytest.approx(told["objective"], rel=1e-9)


def test_cross_validation(golden: dict[str, Any], rows: Lengths, gamed: Gamed):
    told = golden["outputs"]["l1_cv_explicit_folds"]
    np.testing.assert_allclose(CS, told["Cs"], rtol=1e-12)
    c, scores = alpaca_c(rows, gamed)
    np.testing.assert_allclose(scores, told["scores_fold_by_C"], rtol=1e-7)
    assert c == pytest.approx(told["best_C"])
    found = alpaca(rows, gamed, c, FEW)
    np.testing.assert_allclose(
        list(found.coefficients.values()), told["coef_length_difficulty_intercept"], rtol=1e-7
    )
    assert (found.estimate.value or 0) * 100 == pytest.approx(told["lc_win_rate_percent"], rel=1e-7)


def test_other_side_is_the_rest(rows: Lengths, gamed: Gamed):
    """q -> 1 - q, d -> -d and gamma -> -gamma in every row: 100 - LC."""
    other = Lengths(
        preferences=1 - rows.preferences, model=rows.baseline, baseline=rows.model, difficulty=-(rows.difficulty)  # type: ignore[operator]
    )
    mirror = Gamed(shorter=-gamed.shorter, difficulty=-gamed.difficulty, preferences=1 - gamed.preferences)
    one, two = alpaca(rows, gamed, 1.0, FEW).estimate.value, alpaca(other, mirror, 1.0, FEW).estimate.value
    assert (one or 0) + (two or 0) == pytest.approx(1, abs=1e-9)
    one, two = controlled(rows, FEW).estimate.value, controlled(other, FEW).estimate.value
    assert (one or 0) + (two or 0) == pytest.approx(1, abs=1e-9)


def test_without_a_difference_in_length_it_is_the_raw_rate(rows: Lengths):
    same = replace(rows, model=rows.baseline, difficulty=None)
    found = alpaca(same, None, math.inf, FEW)
    assert found.estimate.value == pytest.approx(rows.preferences.mean(), abs=1e-9)
    ours = controlled(same, FEW)
    assert (ours.estimate.value, ours.warning) == (None, "")
    assert "the win rate itself" in ours.estimate.why


def test_a_known_world_is_found():
    """20,000 prompts where the judge likes length: raw 1/2 and more, at equal length sigmoid(-0.4) = 0.401."""
    random = np.random.default_rng(1)
    gap = random.normal(-0.8, 1.0, size=20_000)
    wins = (random.random(20_000) < special.expit(-0.4 - 1.0 * np.tanh(gap))).astype(float)
    found = controlled(Lengths(preferences=wins, model=500 - 100 * gap, baseline=np.full(20_000, 500.0)), FEW)
    assert wins.mean() > 0.5
    assert found.estimate.value == pytest.approx(0.401, abs=0.015)
    assert found.coefficients["length"] == pytest.approx(-1.0, abs=0.1)


@pytest.mark.parametrize(
    ("wins", "lengths", "why"),
    [([1.0, 0.0], [5, 6], "same length"), ([0.5], [5], "one prompt alone"), ([1.0, 1.0], [5, 9], "wins every prompt"),
     ([0.0, 0.0], [5, 9], "wins every prompt")],
)  # fmt: skip
def test_what_the_prompts_do_not_say_is_no_number(wins: list[float], lengths: list[int], why: str):
    """Without this the prior alone would make one."""
    baseline = np.array([3, 4][: len(wins)])
    found = controlled(Lengths(preferences=np.array(wins), model=np.array(lengths), baseline=baseline))
    assert (found.estimate.value, found.estimate.low, found.warning) == (None, None, "")
    assert why in found.estimate.why


def test_lengths_that_decide_all_stay_finite():
    by_length = np.arange(30) > 14
    found = controlled(
        Lengths(preferences=by_length.astype(float), model=np.arange(30) * 10, baseline=np.full(30, 145)), FEW
    )
    assert found.estimate.value == pytest.approx(0.5, abs=0.02)
    assert found.coefficients["length"] < -5


def test_warnings():
    # 10 points or a quarter of the way: of 0.6 up to 0.7, down to 0.45
    assert shifted(0.6, 0.69) == shifted(0.6, 0.46) == ""
    assert "from 60.0% to 44.0%" in shifted(0.6, 0.44)
    longer = Lengths(preferences=np.tile([1.0, 0.0, 1.0], 20), model=np.arange(60) + 101, baseline=np.full(60, 100))
    assert "on one side of equal length" in controlled(longer, FEW).warning
