"""What a run says when it begins and when it has ended."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_runs import told, train

from align.recipe.load import load_recipe
from align.run.told import ending

WORDS = (
    "data.num_rows=24", "training.batch_size=4", "training.num_train_epochs=null", "training.max_steps=2",
    "logging.num_completions=0", "training.eval_steps=0.5",
)  # fmt: skip


def test_a_run_says_where_it_trains_and_what_the_test_split_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = train("dpo", tmp_path / "run", *WORDS)
    out = capsys.readouterr().out
    assert f"dpo on cpu, 1 process: 260,032 weights, all trained; 22 rows, 2 steps of 4; into {run}" in out
    loss = told(run / "test.json")["loss"]
    assert f"test: loss {loss['value']:.4g} ± {loss['stderr']:.2g} (before training 0.6931)" in out  # log 2
    assert load_recipe(run).training.eval_steps == 0.5


def test_a_policy_that_is_its_own_reference_prefers_nothing_yet():
    zero, one = {"value": 0.0, "stderr": 0.0}, {"value": 0.75, "stderr": 0.1}
    found = {"accuracy": one, "before": {"accuracy": zero, "margin": zero}}
    assert list(ending(found, "accuracy")) == ["test: accuracy 0.75 ± 0.1 (before training every pair is a tie)"]
    found["before"]["margin"] = one
    assert list(ending(found, "accuracy")) == ["test: accuracy 0.75 ± 0.1 (before training 0)"]


def test_the_metric_that_runs_are_compared_by_comes_first():
    found = {name: {"value": 1.0, "stderr": 0.5} for name in ("loss", "margin", "reward")}
    assert next(ending(found, "reward")) == "test: reward 1 ± 0.5"
