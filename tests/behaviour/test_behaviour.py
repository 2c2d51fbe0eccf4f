"""What a recipe promises, in runs of a few steps: references, adapters, keep-best, precision, optimisers, seeds."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from small_runs import (
    BRIEF,
    FRESH,
    TINY,
    assert_resumes,
    gap,
    metrics,
    run,
    same,
    told,
    weights,
    write_recipe,
    write_rows,
)
from tiny_models import random_ids
from transformers import AutoModelForCausalLM, AutoTokenizer

from align.cli.main import main
from align.runfolder import checkpoint
from align.runfolder.fragments import Saved

NAMES = ("Ann", "Ben", "Cleo", "Dan", "Eve", "Finn", "Gus", "Hal", "Ida", "Jon", "Kit", "Lou")
STEPS = {"batch_size": 6, "max_steps": 3}
LORA = {**FRESH, "lora": {"r": 4, "lora_alpha": 8}}


def pairs(count: int = 12) -> list[dict[str, Any]]:
    return [
        {"prompt": f"Ask {n} for {i} cups.", "chosen": f"Please, {n}, may I have {i}?", "rejected": f"{n}! {i}, now!"}
        for i, n in enumerate(NAMES[:count])
    ]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def rows(place: Path) -> str:
    return write_rows(place / "pairs.jsonl", pairs())


def dpo(out: Path, rows: str, *, model: Any = FRESH, training: Any = STEPS, optim: Any = None, words: Any = ()) -> Path:
    recipe = {"method": {"name": "dpo"}, "model": model, "data": {"train": rows}, "training": training}
    return run(out, {**recipe, "optim": optim or {"learning_rate": 1e-2}, "logging": BRIEF}, *words)


@pytest.fixture(scope="module")
def plain(place: Path, rows: str) -> Path:
    """DPO with a frozen copy, to which the others are compared."""
    return dpo(place / "plain", rows)


# ---- references -----------------------------------------------------------------------------------------------------


def test_the_first_step_of_dpo_knows_no_difference(plain: Path):
    first, second, _ = metrics(plain)
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert first["margin"] == pytest.approx(0, abs=1e-6)
    assert first["grad_norm"] > 0
    assert second["loss"] != pytest.approx(math.log(2), abs=1e-4)


def test_cached_reference_gives_the_numbers_of_a_copy_and_is_computed_once(plain: Path, place: Path, rows: str):
    cache = Path(os.environ["ALIGN_CACHE"], "logps")
    one = dpo(place / "cached", rows, model={**FRESH, "reference": "cached"})
    made = {p: p.stat().st_mtime_ns for p in cache.iterdir()}
    two = dpo(place / "cached-again", rows, model={**FRESH, "reference": "cached"})
    assert {p: p.stat().st_mtime_ns for p in cache.iterdir()} == made
    assert same(weights(one), weights(two))
    assert gap(weights(one), weights(plain)) < 1e-5
    assert [a["loss"] for a in metrics(one)] == pytest.approx([b["loss"] for b in metrics(plain)], abs=1e-5)
    other = dpo(place / "cached-other", rows, model={**FRESH, "reference": "cached"}, words=("training.seed=1",))
    assert {p for p in cache.iterdir()} > made.keys(), "other weights are another reference"
    assert metrics(other)[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)


def test_an_adapter_switched_off_is_the_copy(place: Path, rows: str):
    off = dpo(place / "lora-off", rows, model=LORA)
    copy = dpo(place / "lora-copy", rows, model={**LORA, "reference": "copy"})
    assert metrics(off)[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert metrics(off)[2]["loss"] < math.log(2) - 1e-3
    assert gap(weights(off), weights(copy)) < 1e-5


def test_another_reference_is_another_model(plain: Path, place: Path, rows: str):
    """Policy and reference exchanged: every margin changes its sign."""
    ours, theirs, whole = str(plain), "asset:stories260k", {"batch_size": 12, "max_steps": 1}
    there = dpo(
        place / "there", rows, model={"model_name_or_path": ours, "ref_model_name_or_path": theirs}, training=whole
    )
    back = dpo(
        place / "back", rows, model={"model_name_or_path": theirs, "ref_model_name_or_path": ours}, training=whole
    )
    assert abs(metrics(there)[0]["margin"]) > 1e-2
    assert metrics(back)[0]["margin"] == pytest.approx(-metrics(there)[0]["margin"], abs=1e-4)


# ---- adapters and tokens --------------------------------------------------------------------------------------------


def test_an_adapter_is_exported_as_the_model_it_makes(place: Path, rows: str, capsys: pytest.CaptureFixture[str]):
    out = dpo(place / "lora", rows, model=LORA)
    assert (out / "final/adapter_model.safetensors").exists()
    assert main(["export", str(out), str(place / "merged")]) == 0
    base = AutoModelForCausalLM.from_pretrained(out / "init")
    ids = random_ids()
    plain = base(ids).logits
    tuned = PeftModel.from_pretrained(base, out / "final")(ids).logits
    merged = AutoModelForCausalLM.from_pretrained(place / "merged")(ids).logits
    assert (tuned - merged).abs().max() < 1e-4
    assert (tuned - plain).abs().max() > 1e-2


@pytest.mark.parametrize("lora", [None, {"r": 4, "lora_alpha": 4}], ids=["whole", "lora"])
def test_added_tokens_are_trained_and_travel(place: Path, lora: Any):
    said = [{"prompt": r["prompt"], "completion": "<|kind|>"} for r in pairs()]
    rows = write_rows(place / "kind.jsonl", said)
    out = place / f"added-{'lora' if lora else 'whole'}"
    model = {"model_name_or_path": "asset:stories260k", "add_tokens": ["<|kind|>"], "lora": lora}
    recipe = {"method": {"name": "sft"}, "model": model, "data": {"train": rows}, "optim": {"learning_rate": 1e-2}}
    run(out, {**recipe, "training": {"batch_size": 12, "max_steps": 25}, "logging": BRIEF})
    assert main(["export", str(out), str(out / "plain")]) == 0
    tokenizer = AutoTokenizer.from_pretrained(out / "plain")
    model = AutoModelForCausalLM.from_pretrained(out / "plain")
    new = tokenizer.convert_tokens_to_ids("<|kind|>")
    assert new == model.config.vocab_size - 1 == 512
    prompt = tokenizer(pairs()[0]["prompt"], return_tensors="pt", return_token_type_ids=False)
    assert model(**prompt).logits[0, -1].argmax() == new  # every answer is this


# ---- the best evaluation --------------------------------------------------------------------------------------------


def test_early_stopping_keeps_the_best(place: Path, rows: str):
    unlike = [{**r, "chosen": r["rejected"], "rejected": r["chosen"]} for r in pairs(6)]
    held_out = write_rows(place / "unlike.jsonl", unlike)  # the opposite taste: better in training is worse here
    training = {
        "batch_size": 6, "max_steps": 30, "eval_steps": 2, "early_stopping_patience": 2, "load_best_model_at_end": True,
    }  # fmt: skip
    recipe = {"method": {"name": "dpo"}, "model": FRESH, "optim": {"learning_rate": 3e-3}, "training": training}
    data = {"train": rows, "validation": held_out, "test": held_out}
    out = run(place / "early", {**recipe, "data": data, "logging": BRIEF})
    evaluated = {line["step"]: line["eval/loss"] for line in metrics(out) if "eval/loss" in line}
    best = min(evaluated, key=lambda step: evaluated[step])
    outcome = told(out / "outcome.json")
    assert outcome["ended_early"]
    assert outcome["ended_by"] == "patience"
    assert (outcome["best_step"], outcome["final_step"], outcome["step"]) == (best, best, best + 2 * 2)
    assert metrics(out)[-1]["step"] == best + 4 < 30
    assert told(out / "test.json")["loss"]["value"] == pytest.approx(evaluated[best], abs=1e-6)
    kept = Saved(checkpoint.folder(out / "checkpoints", best) / "state", 0).whole()
    assert same({n.removeprefix("model."): t for n, t in kept.items() if "lm_head" not in n}, weights(out))
    assert "Early stopping ended the run at step" in (out / "report.html").read_text()


# ---- precision, memory, optimisers ----------------------------------------------------------------------------------


def test_bf16_autocast_differs_little(plain: Path, place: Path, rows: str):
    out = dpo(place / "bf16", rows, training={**STEPS, "mixed_precision": "bf16", "save_steps": 1})
    for ours, theirs in zip(metrics(out), metrics(plain), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=0.02)
    assert 0 < gap(weights(out), weights(plain)) < 0.05  # float32 weights: three steps of at most 0.01 each
    assert all(t.dtype == torch.float32 for t in weights(out).values())
    assert_resumes(str(place / "bf16.yaml"), out, place, 2)


def test_gradient_checkpointing_changes_no_number(plain: Path, place: Path, rows: str):
    out = dpo(place / "checkpointing", rows, training={**STEPS, "gradient_checkpointing": True})
    assert [a["loss"] for a in metrics(out)] == pytest.approx([b["loss"] for b in metrics(plain)], abs=1e-6)
    assert [a["grad_norm"] for a in metrics(out)] == pytest.approx([b["grad_norm"] for b in metrics(plain)], rel=1e-5)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("SGD", {"momentum": 0.9}), ("RMSprop", {}), ("Adafactor", {"d": 2.0})],
)
def test_optimisers_by_name(name: str, arguments: dict[str, Any], place: Path, rows: str):
    rate = {"SGD": 0.1, "RMSprop": 1e-3, "Adafactor": 1e-2}[name]
    optim = {"optim": name, "learning_rate": rate, "optim_args": arguments}
    logged = metrics(dpo(place / name, rows, optim=optim, training={"batch_size": 12, "max_steps": 4}))
    assert logged[-1]["loss"] < logged[0]["loss"] - 1e-3


def test_an_optimiser_that_refuses_its_arguments_is_a_mistake(
    place: Path, rows: str, capsys: pytest.CaptureFixture[str]
):
    recipe = {"method": {"name": "dpo"}, "model": FRESH, "data": {"train": rows}, "training": STEPS}
    for arguments, finding in (({"momentun": 0.9}, "unexpected keyword"), ({"momentum": -1.0}, "Invalid momentum")):
        path = write_recipe(place / "sgd.yaml", {**recipe, "optim": {"optim": "SGD", "optim_args": arguments}})
        assert main(["train", str(path), f"training.output_dir={place / 'refused' / finding[:4]}"]) == 2
        err = capsys.readouterr().err
        assert "optim.optim_args: SGD does not take these" in err
        assert finding in err


def test_a_seed_is_all_that_chance_depends_on(plain: Path, place: Path, rows: str):
    torch.manual_seed(17)
    again = dpo(place / "again", rows)
    assert same(weights(plain), weights(again))
    other = dpo(place / "other-seed", rows, words=("training.seed=1",))
    assert not same(weights(plain), weights(other))
    start = {"model_name_or_path": str(plain / "final")}  # from the same weights the order of the rows alone differs
    one, two = (dpo(place / f"order-{s}", rows, model=start, words=(f"training.seed={s}",)) for s in (0, 1))
    assert 0 < gap(weights(one), weights(two)) < 0.1


def test_micro_batches_of_any_size_train_the_same(plain: Path, place: Path, rows: str):
    """With SGD: AdamW turns the rounding of a gradient near zero into a whole step."""
    optim = {"optim": "SGD", "learning_rate": 0.1}
    whole = dpo(place / "sgd", rows, optim=optim)
    for layout in ("padded", "packed", "shared"):
        small = {**STEPS, "max_tokens": 60, "layout": layout, "head_chunk": 7}
        assert gap(weights(dpo(place / f"sgd-{layout}", rows, optim=optim, training=small)), weights(whole)) < 1e-5


def test_a_fresh_model_has_the_shape_that_was_asked_for(plain: Path):
    model = AutoModelForCausalLM.from_pretrained(plain / "final")
    assert all(getattr(model.config, key) == value for key, value in TINY.items() if key != "tie_word_embeddings")
    assert model.config.vocab_size == 512
    assert not (plain / "final/chat_template.jinja").exists()  # it has never seen one
