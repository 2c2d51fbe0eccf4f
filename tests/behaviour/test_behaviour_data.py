"""From rows to a model that learnt them: text, chat, verdicts, margins, mixtures, rows that are too long."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_runs import BRIEF, FRESH, TINY, gap, lines, metrics, run, same, told, weights, write_recipe, write_rows
from transformers import AutoModelForCausalLM, AutoTokenizer

from align.cli.main import main
from align.models.tokenizer import load_tokenizer
from align.recipe.load import load_recipe
from align.run.assemble import load_data
from align.world.distributed import join

STORY = "Once upon a time {} had {} red balls. They were so happy that they sang until the sun went down."
NAMES = ("Ann", "Ben", "Cleo", "Dan", "Eve", "Finn", "Gus", "Hal")
EXAMPLES = [{"prompt": f"{name} has {i}", "completion": f" {kind} {i * 7 % 13}"}
            for name in NAMES for i, kind in enumerate(("cats", "dogs", "nuts", "hats"))]  # fmt: skip
PAIRS = [{"prompt": e["prompt"], "chosen": e["completion"], "rejected": " nothing"} for e in EXAMPLES[:12]]
THREE = {"batch_size": 6, "max_steps": 3}
TOKENIZER = "tests/data/tokenizer-minimind6400"


def sft(train: str, training: Any, **sections: Any) -> dict[str, Any]:
    recipe = {"method": {"name": "sft"}, "model": FRESH, "data": {"train": train}, "optim": {"learning_rate": 1e-2}}
    return {**recipe, "training": training, "logging": BRIEF, **sections}


# ---- imitation ------------------------------------------------------------------------------------------------------


def test_packed_text_trains_what_padded_text_trains(tmp_path: Path):
    """With SGD: AdamW turns the rounding of a gradient near zero into a whole step."""
    rows = write_rows(
        tmp_path / "text.jsonl", [{"text": STORY.format(n, i)[: 30 + 9 * i]} for i, n in enumerate(NAMES)]
    )
    optim = {"optim": "SGD", "learning_rate": 0.1}
    made = {
        layout: run(tmp_path / layout, sft(rows, {**THREE, "max_tokens": 200, "layout": layout}, optim=optim))
        for layout in ("padded", "packed")
    }
    assert gap(weights(made["padded"]), weights(made["packed"])) < 1e-5
    padded, packed = (metrics(made[layout]) for layout in ("padded", "packed"))
    assert [a["loss"] for a in padded] == pytest.approx([b["loss"] for b in packed], abs=1e-5)
    assert padded[2]["loss"] < padded[0]["loss"]


def test_32_examples_are_learnt_by_heart_in_every_layout(tmp_path: Path):
    """Then a greedy continuation gives them back, end and all."""
    rows = write_rows(tmp_path / "examples.jsonl", EXAMPLES)
    optim = {"learning_rate": 1e-2, "lr_scheduler_type": "cosine", "warmup_ratio": 0.05}
    last: dict[str, float] = {}
    for layout in ("padded", "packed"):
        training = {"batch_size": 32, "max_steps": 48, "layout": layout}
        out = run(tmp_path / layout, sft(rows, training, optim=optim))
        last[layout] = metrics(out)[-1]["loss"]
        assert last[layout] < 0.05
        model, tokenizer = (auto.from_pretrained(out / "final") for auto in (AutoModelForCausalLM, AutoTokenizer))
        for example in EXAMPLES[::5]:
            prompt = tokenizer(example["prompt"], return_tensors="pt", return_token_type_ids=False)
            written = model.generate(**prompt, max_new_tokens=20, do_sample=False, pad_token_id=0)[0]
            assert written[-1] == tokenizer.eos_token_id
            assert tokenizer.decode(written, skip_special_tokens=True) == example["prompt"] + example["completion"]
    assert last["packed"] == pytest.approx(last["padded"], abs=1e-3)


def test_a_conversation_ends_where_the_template_ends_a_turn(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(repository)
    talks = [[("user", f"Who is {n}?"), ("assistant", f"{n} is number {i}.")] for i, n in enumerate(NAMES)]
    rows = write_rows(
        tmp_path / "talks.jsonl", [{"messages": [{"role": r, "content": c} for r, c in talk]} for talk in talks]
    )
    model = {"config": {**TINY, "num_hidden_layers": 1}, "tokenizer_name_or_path": TOKENIZER}
    data = {"train": rows, "validation": rows, "loss_on": "assistant"}
    logging = {"num_completions": 8, "max_completion_length": 24}
    recipe = sft(rows, {"batch_size": 8, "max_steps": 60}, model=model, data=data, logging=logging)
    out = run(tmp_path / "run", recipe)
    after = [s for s in lines(out / "completions.jsonl") if s["step"] == 60]
    assert [s["stop_reason"] for s in after] == ["eos"] * 8
    assert {s["text"].strip() for s in after} == {talk[1][1] for talk in talks}
    tokenizer = AutoTokenizer.from_pretrained(out / "final")
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert end in told(out / "final/generation_config.json")["eos_token_id"]
    original = json.loads((repository / TOKENIZER / "tokenizer_config.json").read_text())["chat_template"]
    assert tokenizer.chat_template == original
    capsys.readouterr()
    monkeypatch.setattr("sys.stdin", io.StringIO("Who is Ben?\n/new\nWho is Eve?\n"))
    assert main(["chat", str(out), "--temperature", "0", "--max-new-tokens", "24"]) == 0
    said = capsys.readouterr().out
    assert "Ben is number 1." in said
    assert "Eve is number 4." in said


# ---- verdicts, margins ----------------------------------------------------------------------------------------------


def test_verdicts_from_pairs_are_verdicts_on_their_answers(tmp_path: Path):
    verdicts = [
        {"prompt": p["prompt"], "completion": p[side], "label": side == "chosen"}
        for p in PAIRS
        for side in ("chosen", "rejected")
    ]
    sources = {"pairs": PAIRS, "verdicts": verdicts}
    files = {name: write_rows(tmp_path / f"{name}.jsonl", rows) for name, rows in sources.items()}
    recipe = sft("", {"batch_size": 8, "max_steps": 3}, method={"name": "kto"})
    out = {name: run(tmp_path / name, {**recipe, "data": {"train": file}}) for name, file in files.items()}
    assert same(weights(out["pairs"]), weights(out["verdicts"]))
    assert metrics(out["pairs"]) == metrics(out["verdicts"])
    first = metrics(out["pairs"])[0]
    assert first["loss"] == pytest.approx(0.5, abs=1e-5)  # sigmoid(0) on both sides, each weighing 1
    assert told(out["pairs"] / "data.json")["splits"]["train"]["kept"] == 24


def test_margins_of_the_rows_reach_the_reward_model(tmp_path: Path):
    def trained(name: str, rows: list[dict[str, Any]]) -> Path:
        file = write_rows(tmp_path / f"{name}.jsonl", rows)
        return run(tmp_path / name, sft(file, THREE, method={"name": "reward_model"}, logging={}))

    plain = trained("plain", PAIRS)
    zero = trained("zero", [{**p, "margin": 0.0} for p in PAIRS])
    wide = trained("wide", [{**p, "margin": 1.0} for p in PAIRS])
    assert same(weights(plain), weights(zero))
    # log(1 + exp(1 - r)) - log(1 + exp(-r)) is 0.62 at r = 0, and the new head's differences are small
    assert metrics(wide)[0]["loss"] - metrics(plain)[0]["loss"] == pytest.approx(0.62, abs=0.15)
    assert metrics(wide)[0]["accuracy"] == metrics(plain)[0]["accuracy"]
    assert not (plain / "completions.jsonl").exists() or not lines(plain / "completions.jsonl")


# ---- which rows -----------------------------------------------------------------------------------------------------


def test_sources_are_drawn_by_their_weights(tmp_path: Path):
    files = [write_rows(tmp_path / f"{name}.jsonl", rows) for name, rows in (("a", EXAMPLES[:8]), ("b", EXAMPLES[8:]))]
    mixed = [{"source": files[0], "weight": 3.0}, {"source": files[1]}]
    recipe = load_recipe(write_recipe(tmp_path / "r.yaml", sft("", THREE, data={"train": mixed})))
    splits = load_data(recipe, load_tokenizer(recipe.model), join(recipe.optim.max_grad_norm))
    order = splits.mixture(0).rows(0, 320)
    sources = splits.train.index["source"][order]
    assert np.mean(sources == 0) == 0.75
    counts = np.bincount(order, minlength=32)
    assert counts[:8].tolist() == [30] * 8  # 240 draws of 8 rows, each as often as the others
    assert set(counts[8:].tolist()) <= {3, 4}
    run(tmp_path / "run", sft("", THREE, data={"train": mixed}))


def test_overlong_rows_are_dropped_or_cut_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    long = {"prompt": "Tell me", "completion": " a very long story of a very long day" * 3}
    rows = write_rows(tmp_path / "rows.jsonl", [*EXAMPLES[:19], long])
    kept: dict[str, dict[str, Any]] = {}
    for overlong in ("drop", "cut_completion", "cut_prompt"):
        data = {"train": rows, "max_length": 40, "overlong": overlong}
        out = run(tmp_path / overlong, sft(rows, {"batch_size": 20, "max_steps": 1}, data=data))
        kept[overlong] = told(out / "data.json")["splits"]["train"]
    assert (kept["drop"]["kept"], kept["drop"]["dropped"]) == (19, {"longer than max_length": 1})
    assert (kept["cut_completion"]["kept"], kept["cut_completion"]["shortened"]) == (20, 1)
    assert kept["cut_prompt"]["kept"] == 19, "no cut of the prompt makes room for this answer"
    many = write_rows(tmp_path / "many.jsonl", [*EXAMPLES[:8], long])
    path = write_recipe(tmp_path / "many.yaml", sft(many, THREE, data={"train": many, "max_length": 40}))
    capsys.readouterr()
    assert main(["train", str(path), f"training.output_dir={tmp_path / 'many'}"]) == 2
    err = capsys.readouterr().err
    assert "1 of 9 rows (11%) do not fit into 40 tokens" in err
    assert not (tmp_path / "many/metrics.jsonl").exists()
