"""Every shipped recipe is found, complete, trains, and leaves a whole run folder that can be run again."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest
import torch
import yaml
from far_recipes import stand_ins
from small_runs import lines, metrics, same, told, train, weights
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from align.cli.main import main
from align.methods.base import find_method, method_names
from align.recipe.load import load_recipe
from align.recipe.online import is_online
from align.recipe.text import recipe_names, shipped
from align.runfolder import checkpoint

SMALL = (
    *("data.num_rows=30", "training.num_train_epochs=null", "training.max_steps=2", "training.eval_steps=1"),
    *("training.batch_size=4", "training.max_eval_rows=4", "training.save_steps=1"),
)
SHORT = ("logging.num_completions=2", "logging.max_completion_length=6")  # of those that write
WRITTEN = ("rollout.num_prompts=4", "rollout.num_generations=2", "rollout.max_completion_length=6")
SECTIONS = ("method", "model", "data", "optim", "training", "logging")


@pytest.fixture(autouse=True)
def _in_the_checkout(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository)  # recipes of data that is not shipped name it from there


def words(name: str) -> tuple[str, ...]:
    recipe = load_recipe(name, stand_ins(name))
    once = ("rollout.num_iterations=1",) if is_online(type(recipe.method)) else ()
    once = (*once, "rollout.window=3") if recipe.rollout.window else once
    return (
        *stand_ins(name),
        *SMALL,
        *(SHORT if recipe.logging.num_completions else ()),
        *((*WRITTEN, *once) if once else ()),
    )


def test_every_method_has_a_recipe_of_its_name():
    assert set(method_names()) <= set(recipe_names())
    for name in method_names():
        assert load_recipe(name).method_name == name


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_is_complete_and_says_why(name: str, capsys: pytest.CaptureFixture[str]):
    text = (shipped("recipes") / f"{name}.yaml").read_text(encoding="utf-8")
    written = yaml.safe_load(text)
    assert tuple(s for s in SECTIONS if s in written) == SECTIONS
    knobs = written["method"].keys() - {"name"}
    known = {f.name for f in fields(find_method(written["method"]["name"])) if "remembered" not in f.metadata}
    assert knobs == known or (name != written["method"]["name"] and knobs <= known), "a knob is not shown"
    assert text.startswith("# ")
    assert written["data"]["validation"], "nothing is held out"
    assert written["data"]["test"]
    assert {"learning_rate", "lr_scheduler_type"} <= written["optim"].keys()
    assert {"batch_size", "num_train_epochs"} <= written["training"].keys()
    assert main(["check", name, *stand_ins(name)]) == 0
    assert capsys.readouterr().out.rstrip().endswith("no mistakes found")


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_leaves_a_whole_run_folder_and_can_be_run_again(name: str, tmp_path: Path):
    run = train(name, tmp_path / "run", *words(name))
    _files_are_whole(run)
    _final_loads(run)
    again = train(run / "recipe.yaml", tmp_path / "again")
    assert same(weights(run), weights(again))
    assert metrics(run) == metrics(again)
    assert told(run / "test.json") == told(again / "test.json")
    mine, theirs = (yaml.safe_load((r / "recipe.yaml").read_text()) for r in (run, again))
    assert mine["training"].pop("output_dir") != theirs["training"].pop("output_dir")
    assert mine == theirs


def _files_are_whole(run: Path) -> None:
    recipe = load_recipe(run)
    told_by = type(recipe.method).compared_by
    logged = lines(run / "metrics.jsonl")
    assert [line["step"] for line in logged] == [1, 2]
    for line in logged:
        assert all(isinstance(v, int | float) for v in line.values())
        assert {
            "loss",
            "grad_norm",
            "learning_rate",
            "num_tokens",
            "memory_mb",
            f"eval/{told_by}",
            f"eval/{told_by}_stderr",
        } <= line.keys()
        assert line["learning_rate"] + line.get("critic_learning_rate", 0) > 0  # a critic may learn alone at first
        assert line["grad_norm"] > 0 or line["equal_groups"] == 1  # equal rewards teach a comparison nothing
    environment = told(run / "environment.json")
    assert environment["world_size"] == 1
    assert torch.__version__.startswith(environment["packages"]["torch"].split("+")[0])
    assert [checkpoint.step_of(p) for p in checkpoint.checkpoints(run / "checkpoints")][-1] == 2
    assert all(checkpoint.verify(p) == [] for p in checkpoint.checkpoints(run / "checkpoints"))
    data = told(run / "data.json")["splits"]
    sources = load_recipe(run / "recipe.yaml").data.train
    assert data["train"]["read"] + data["validation"]["read"] == 30 * (1 if isinstance(sources, str) else len(sources))
    assert sum(data["train"]["lengths"]["counts"]) == data["train"]["kept"]
    test = told(run / "test.json")
    assert {"value", "stderr", "n", "rows"} <= test[told_by].keys()
    assert test[told_by]["n"] == 4
    assert len(test[told_by]["rows"]) in (0, 4)  # a loss of several means has no value of a row
    before = test["before"][told_by]["value"]
    assert before == told(run / "test_before.json")[told_by]["value"]
    assert told_by == "reward" or before != test[told_by]["value"]  # two steps need not change a greedy completion
    outcome = told(run / "outcome.json")
    assert (outcome["step"], outcome["num_steps"], outcome["ended_early"]) == (2, 2, False)
    samples = lines(run / "completions.jsonl")
    shown = {0, 1, 2} if told_by == "reward" else {0, 2}  # where the policy writes, at every evaluation
    assert {s["step"] for s in samples} == (shown if recipe.logging.num_completions else set())
    assert {s["prompt"] for s in samples if s["step"] == 0} == {s["prompt"] for s in samples if s["step"] == 2}
    assert all(0 < s["completion_length"] <= 6 for s in samples)
    page = (run / "report.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert recipe.method_name in page


def _final_loads(run: Path) -> None:
    """By transformers alone, without a word of ours."""
    final = run / "final"
    kind = json.loads((final / "config.json").read_text())["architectures"][0]
    classifier = kind.endswith("ForSequenceClassification")
    auto = AutoModelForSequenceClassification if classifier else AutoModelForCausalLM
    model, report = auto.from_pretrained(final, output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    tokenizer = AutoTokenizer.from_pretrained(final)
    out = model(**tokenizer("Please be so kind.", return_tensors="pt", return_token_type_ids=False)).logits
    assert out.shape[-1] == (1 if classifier else model.config.vocab_size)
    assert torch.isfinite(out).all()
    for name, tensor in weights(run).items():
        assert torch.isfinite(tensor).all(), name
