"""Ten sources with rising corruption: the known world of `scalebio`, on a model that is made in a moment."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_runs import FRESH, TINY, run, told

from tests.bench.noise_study import NOISE, SETTINGS, corrupted, judged, spearman


def test_noise_is_found_and_put_in_order(tmp_path: Path) -> None:
    recipe = {
        **SETTINGS, "model": {**FRESH, "config": {**TINY, "num_hidden_layers": 1}},
        "data": {**corrupted(tmp_path, 0), "max_length": 128, "overlong": "cut_completion"},
        "optim": {**SETTINGS["optim"], "learning_rate": 1e-2}, "training": {"batch_size": 40, "max_steps": 60},
    }  # fmt: skip
    del recipe["data"]["test"]
    found = told(run(tmp_path / "run", recipe) / "sources.json")
    weights = [one["weight"] for one in found["sources"]]
    assert [one["name"] for one in found["sources"]] == [f"tenth_{i}" for i in range(10)]
    measured = judged(weights)
    assert measured["noise"] < 0.5
    assert measured["spearman"] < -0.9
    assert found["effective_sources"] < 5


def test_the_measures() -> None:
    falling = [0.3, 0.2, 0.15, 0.12, 0.1, 0.05, 0.04, 0.02, 0.012, 0.008]
    assert judged(falling)["noise"] == pytest.approx(10 * 0.13 / 5)
    assert judged(falling)["spearman"] == pytest.approx(-0.937, abs=2e-3)
    assert judged([0.1] * 5 + [0.05] * 3 + [0.2, 0.25])["noise"] == pytest.approx(1.2)
    assert spearman([1, 2, 3, 4], [10, 20, 30, 40]) == pytest.approx(1)
    assert NOISE[5:] == (1.0,) * 5
