"""What is looked at before, after and when it goes wrong: doctor, report, a run that fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_runs import BRIEF, FRESH, lines, metrics, run, same, train, weights, write_recipe, write_rows

from align.cli.main import main
from align.runfolder import checkpoint

PAIRS = [{"prompt": f"Count to {i}.", "chosen": " Gladly, sir.", "rejected": " No, why?"} for i in range(24)]
TRAINING = {"batch_size": 6, "max_steps": 3}


def dpo(train: str, **sections: Any) -> dict[str, Any]:
    recipe = {"method": {"name": "dpo"}, "model": FRESH, "data": {"train": train}, "training": TRAINING, **sections}
    return {**recipe, "logging": BRIEF}


# ---- doctor ---------------------------------------------------------------------------------------------------------


def test_doctor_finds_a_good_recipe_good(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    assert main(["doctor", "dpo", "data.num_rows=20", f"training.output_dir={tmp_path / 'none'}"]) == 0
    out = capsys.readouterr().out
    assert "nothing to mend" in out
    assert "loss                       0.693147" in out  # ln 2
    assert "(0: ratio 1, KL 0)" in out
    assert not (tmp_path / "none").exists(), "it trains nothing and writes nothing"


@pytest.mark.parametrize(
    ("change", "data", "finding"),
    [
        ({"prompt": "<s>Count to<s> 3."}, {"special_tokens": ["<s>"]}, "sequences have more than one BOS"),
        ({}, {"max_length": 15, "overlong": "cut_completion"}, "no sequence learns a token that stops a generation"),
    ],
    ids=["two beginnings", "no end"],
)
def test_doctor_finds_what_is_planted(
    change: dict[str, str], data: dict[str, Any], finding: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    rows = write_rows(tmp_path / "rows.jsonl", [{**p, **change} for p in PAIRS])
    recipe = write_recipe(tmp_path / "r.yaml", dpo(rows, data={"train": rows, **data}))
    assert main(["doctor", str(recipe)]) == 1
    captured = capsys.readouterr()
    assert finding in captured.out
    assert "1 finding to mend before training" in captured.err


def test_doctor_shows_which_tokens_are_learnt(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    talk = [("user", "Hi."), ("assistant", "Hello!"), ("user", "Bye."), ("assistant", "So long.")]
    rows = write_rows(tmp_path / "t.jsonl", [{"messages": [{"role": r, "content": c} for r, c in talk]}] * 3)
    recipe = {**dpo(rows), "method": {"name": "sft"}, "data": {"train": rows, "loss_on": "assistant"}}
    assert main(["doctor", str(write_recipe(tmp_path / "r.yaml", recipe))]) == 0
    out = capsys.readouterr().out.splitlines()
    at = next(i for i, line in enumerate(out) if "So long." in line)
    marked = "".join(c for c, mark in zip(out[at], out[at + 1].ljust(len(out[at])), strict=False) if mark == "^")
    assert "So long." in marked.replace("▁", " ")
    assert "Assistant" not in marked


def test_doctor_knows_a_beginning_that_opens_every_turn_and_shows_which_names_are_tokens(
    tmp_path: Path, repository: Path, capsys: pytest.CaptureFixture[str]
):
    """The tokenizer's BOS is `<|im_start|>`."""
    turns = [("user", "What ends a turn?"), ("assistant", "It is <|im_end|>."), ("user", "So?"), ("assistant", "Yes.")]
    rows = write_rows(tmp_path / "t.jsonl", [{"messages": [{"role": r, "content": c} for r, c in turns]}] * 3)
    model = {**FRESH, "tokenizer_name_or_path": str(repository / "tests/data/tokenizer-minimind6400")}
    recipe = {**dpo(rows), "method": {"name": "sft"}, "model": model, "data": {"train": rows, "loss_on": "assistant"}}
    assert main(["doctor", str(write_recipe(tmp_path / "r.yaml", recipe))]) == 0
    out = capsys.readouterr().out
    assert "nothing to mend" in out
    assert "3 rows: <|im_end|> is text there, not the token" in "".join(out.splitlines())
    shown = out.splitlines()
    at = next(i for i, line in enumerate(shown) if line.startswith("It is <|im_end|>."))
    assert shown[at] == "It is <|im_end|>.<|im_end|>"
    assert shown[at + 1] == "^" * len("It is <|im_end|>.") + "#" * len("<|im_end|>")


# ---- report ---------------------------------------------------------------------------------------------------------


def test_two_runs_stand_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    rows = write_rows(tmp_path / "rows.jsonl", PAIRS)
    one = run(tmp_path / "careful", dpo(rows, optim={"learning_rate": 1e-3}))
    two = train(one / "recipe.yaml", tmp_path / "bold", "optim.learning_rate=1e-2")
    capsys.readouterr()
    assert main(["report", str(one), str(two), "-o", str(tmp_path / "both.html")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "both.html")
    page = (tmp_path / "both.html").read_text()
    for words in ("careful", "bold", "0.001", "0.01", "learning_rate"):
        assert words in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert metrics(one)[0]["loss"] == pytest.approx(metrics(two)[0]["loss"], abs=1e-6)
    assert not same(weights(one), weights(two))


# ---- a run that fails -----------------------------------------------------------------------------------------------


def test_a_run_that_fails_keeps_its_last_step_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A rate that overflows at a known step stands for whatever makes a loss infinite."""
    rows = write_rows(tmp_path / "rows.jsonl", PAIRS)
    training = {"batch_size": 6, "max_steps": 12}
    optim = {"optim": "SGD", "learning_rate": 1e18, "max_grad_norm": 0, "lr_scheduler_type": "constant_with_warmup"}
    recipe = write_recipe(tmp_path / "r.yaml", dpo(rows, training=training, optim={**optim, "warmup_steps": 12}))
    out = tmp_path / "run"
    assert main(["train", str(recipe), f"training.output_dir={out}"]) == 1
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert "rows " in err
    assert "the state after step" in err
    logged = lines(out / "metrics.jsonl")
    last = checkpoint.checkpoints(out / "checkpoints")[-1]
    assert checkpoint.step_of(last) == logged[-1]["step"] == len(logged) < 12
    assert checkpoint.verify(last) == []
    assert not (out / "outcome.json").exists()
    assert main(["train", str(recipe), f"training.output_dir={out}"]) == 2  # nothing is overwritten
    assert main(["train", str(recipe), f"training.output_dir={out}", "--resume"]) == 1  # and it fails again, alike
    assert lines(out / "metrics.jsonl") == logged


def test_a_damaged_weight_is_found_before_the_first_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    rows = write_rows(tmp_path / "rows.jsonl", PAIRS)
    start = run(tmp_path / "start", dpo(rows))
    path = start / "final/model.safetensors"
    loaded = load_file(path)
    loaded["model.norm.weight"][0] = float("nan")
    save_file(loaded, path, metadata={"format": "pt"})
    recipe = dpo(rows, model={"model_name_or_path": str(start / "final")})
    out = tmp_path / "run"
    assert main(["train", str(write_recipe(tmp_path / "r.yaml", recipe)), f"training.output_dir={out}"]) in (1, 2)
    err = capsys.readouterr().err
    assert "nan" in err.lower()
    assert "Traceback" not in err
    assert torch.isnan(load_file(path)["model.norm.weight"]).any()
    assert not (out / "final").exists()
    assert json.loads((start / "outcome.json").read_text())["ended_early"] is False
