"""Which evaluation is the best one, and that the report tells of the weights that were kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from small_runs import BRIEF, FRESH, metrics, run, told, write_recipe, write_rows

from align.methods.metrics import about
from align.recipe.load import load_recipe
from align.report.folder import read_run
from align.report.headline import headline, outcome

NAMES = ("Ann", "Ben", "Cleo", "Dan", "Eve", "Finn")


@pytest.mark.parametrize(
    ("metric", "larger"),
    [
        ("loss", False), ("policy_loss", False), ("accuracy", True), ("token_accuracy", True), ("margin", True),
        ("likelihood", False), ("perplexity", False), ("chosen_logps", True), ("rejected_logps", False),
        ("reward", True), ("rewards/loss", True), ("truncated", False),
    ],
)  # fmt: skip
def test_the_name_says_whether_the_larger_is_the_better(metric: str, larger: bool):
    assert about(metric).better == ("larger" if larger else "smaller")


@pytest.mark.parametrize(
    ("recipe", "metric", "larger"),
    [("dpo", "margin", True), ("dpo", "rejected_logps", False), ("dft", "likelihood", False), ("ppo", "reward", True)],
)
def test_a_recipe_goes_by_the_name(recipe: str, metric: str, larger: bool):
    assert load_recipe(recipe, [f"training.metric_for_best_model={metric}"]).training.greater_is_better is larger


def test_a_written_value_is_respected():
    words = ["training.metric_for_best_model=accuracy", "training.greater_is_better=false"]
    assert load_recipe("dpo", words).training.greater_is_better is False
    assert load_recipe("dpo", [*words, "training.greater_is_better=null"]).training.greater_is_better is True
    assert load_recipe("dpo", ["training.greater_is_better=true"]).training.greater_is_better is True


def test_the_metric_of_a_policy_that_writes_may_be_spelt_out():
    spelt = load_recipe("grpo", ["training.metric_for_best_model=reward"])
    assert spelt == load_recipe("grpo")
    assert spelt.training.greater_is_better is True


def test_a_resolved_recipe_says_it_and_an_older_one_still_loads(tmp_path: Path):
    written = yaml.safe_load(load_recipe("dpo").to_yaml())
    assert written["training"]["greater_is_better"] is False
    assert load_recipe(write_recipe(tmp_path / "older.yaml", written)).training == load_recipe("dpo").training


def pairs(taste: int) -> list[dict[str, Any]]:
    answers = [("Please, {}, may I?", "{}! Now!")[:: taste or 1] for _ in NAMES]
    return [
        {"prompt": f"Ask {n}.", "chosen": good.format(n), "rejected": bad.format(n)}
        for n, (good, bad) in zip(NAMES, answers, strict=True)
    ]


def test_the_largest_margin_is_kept_and_reported(tmp_path: Path):
    rows, unlike = write_rows(tmp_path / "rows.jsonl", pairs(1)), write_rows(tmp_path / "unlike.jsonl", pairs(-1))
    training = {
        "batch_size": 6, "max_steps": 4, "eval_steps": 1, "load_best_model_at_end": True,
        "metric_for_best_model": "margin",
    }  # fmt: skip
    recipe = {"method": {"name": "dpo"}, "model": FRESH, "optim": {"learning_rate": 1e-2}, "training": training}
    out = run(tmp_path / "out", {**recipe, "data": {"train": rows, "validation": unlike}, "logging": BRIEF})
    lines = [line for line in metrics(out) if "eval/loss" in line]
    best = max(lines, key=lambda line: line["eval/margin"])
    assert best["eval/margin"] > lines[-1]["eval/margin"], "the held-out rows prefer what training unlearns"
    assert told(out / "outcome.json")["final_step"] == best["step"] < 4
    report = read_run(out)
    measured = [outcome(report, key)[0] for key in ("margin", "loss")]
    assert [m.value for m in measured if m] == [best["eval/margin"], best["eval/loss"]]
    assert any(f"the weights of step {best['step']:.0f} are kept" in sentence for sentence in headline(report))
