"""Recipes: what is read is what was written, and every mistake is told once, with its place and its cure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from far_recipes import stand_ins
from mistakes import mistakes

from align.errors import UserError
from align.recipe.load import load_recipe
from align.recipe.text import recipe_names
from align.system.yaml12 import parse

ROW = {"prompt": "What is two and two?", "chosen": "Four.", "rejected": "Work it out yourself."}


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(ROW | {"prompt": f"{i}?"}) + "\n" for i in range(10)))
    return path


@pytest.fixture
def write(tmp_path: Path, rows: Path):
    """Writes a recipe that is right but for the given changes, and returns its path."""

    def write(name: str = "mine.yaml", **sections: Any) -> Path:
        recipe: dict[str, Any] = {
            "method": {"name": "dpo"},
            "model": {"model_name_or_path": "asset:stories260k"},
            "data": {"train": str(rows), "validation": 0.2},
        }
        for section, values in sections.items():
            recipe[section] = {**recipe.get(section, {}), **values} if isinstance(values, dict) else values
        path = tmp_path / name
        path.write_text(yaml.safe_dump(recipe))
        return path

    return write


# ---- reading --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipes_are_right_and_survive_a_round_trip(name: str, tmp_path: Path):
    recipe = load_recipe(name, stand_ins(name))
    again = tmp_path / "recipe.yaml"
    again.write_text(recipe.to_yaml())
    assert load_recipe(again) == recipe
    assert recipe.name == name


@pytest.mark.parametrize(
    "overrides",
    [
        ["training.max_steps=7", "training.num_train_epochs=null"],
        ["model.lora={r: 4, target_modules: [q_proj, v_proj]}"],
        ["data.train=[{source: asset:polite_pairs/train.jsonl, weight: 2}, {source: asset:polite_pairs/test.jsonl}]"],
        ["training.batch_size=null", "training.per_device_train_batch_size=2"],
        ["method.name=reward_model", "method.beta=null", "model.reference=null"],
        ["name=other", "data.columns={prompt: 'Say no: {instruction}'}"],
        ["optim.learning_rate=3e-7", "optim.optim_args={amsgrad: true}"],
    ],
)
def test_overridden_recipes_survive_a_round_trip(overrides: list[str], tmp_path: Path):
    recipe = load_recipe("dpo", [*overrides, "logging.num_completions=0"])
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    assert load_recipe(tmp_path / "recipe.yaml") == recipe


def test_numbers_and_words_are_read_as_yaml_1_2_reads_them():
    values, _ = parse("{a: 1e-5, b: no, c: true, d: 1.5E+3, e: .5, f: 12, g: -.inf, h: on, i: 2020-01-01, j: 1e5x}")
    assert values == {
        "a": 1e-5, "b": "no", "c": True, "d": 1500.0, "e": 0.5, "f": 12, "g": float("-inf"), "h": "on",
        "i": "2020-01-01", "j": "1e5x",
    }  # fmt: skip
    assert load_recipe("dpo", ["training.mixed_precision=no"]).training.mixed_precision == "no"


def test_overrides_come_in_order_and_null_goes_back_to_the_default():
    recipe = load_recipe("dpo", ["method.beta=0.5", "method.beta=null", "training.seed=1", "training.seed=2"])
    assert (recipe.method.beta, recipe.training.seed) == (0.1, 2)  # type: ignore[attr-defined]


def test_a_recipe_takes_its_name_from_its_file_and_its_folder_from_its_name(write: Any):
    recipe = load_recipe(write("polite.yaml"))
    assert (recipe.name, recipe.output_dir) == ("polite", Path("runs/polite"))
    assert load_recipe(write(), ["name=short"]).output_dir == Path("runs/short")


def test_trl_pair_of_batch_names_is_multiplied_out_aloud(write: Any):
    path = write(training={"per_device_train_batch_size": 4, "gradient_accumulation_steps": 3})
    recipe = load_recipe(path, world_size=2)
    assert recipe.training.batch_size == 24
    assert "4 x gradient_accumulation_steps 3 x world size 2" in recipe.notes[0]
    assert load_recipe(path, world_size=2) == load_recipe(write(training={"batch_size": 24}))


# ---- mistakes -------------------------------------------------------------------------------------------------------

UNKNOWN = [
    ("method.bta=0.2", "method.bta: no such key; dpo has beta. Did you mean beta?"),
    ("method.label_smoothing=0.1", "Wrong labels are modelled by the methods cdpo and robust."),
    ("method.loss_type=ipo", "loss_type ipo: here `method.name: ipo`."),
    ("method.learning_rate=1", "learning_rate: here `optim.learning_rate`."),
    ("training.learning_rate=1", "learning_rate: here `optim.learning_rate`."),
    ("training.lr=1", "lr: here `optim.learning_rate`."),
    ("training.bf16=true", "bf16: here `training.mixed_precision`."),
    ("training.deepspeed=x.json", "Here: launch/accelerate says where."),
    ("data.max_seq_length=5", "max_seq_length: here `data.max_length`."),
    ("model.torch_dtype=float32", "torch_dtype: here `model.dtype`"),
    ("model.lora={rank: 8}", "model.lora.rank: no such key; lora has r, lora_alpha"),
    (
        "optimizer={}",
        "method, model, data, optim, training, logging. Did you mean optim?",
    ),
    ("learning_rate=1", "learning_rate: here `optim.learning_rate`."),
    (
        "data.train=[{source: asset:polite_pairs/train.jsonl, wieght: 1}]",
        "data.train.0.wieght: no such key; train has source, weight",
    ),
]


@pytest.mark.parametrize(("override", "told"), UNKNOWN)
def test_unknown_keys_name_the_nearest_and_translate(override: str, told: str):
    found = mistakes("dpo", override)
    assert len(found) == 1
    assert told in found[0]


WRONG = [
    ("training.batch_size=0.5", "training.batch_size: found 0.5; expected a whole number."),
    ("training.batch_size=0", "training.batch_size: found 0; expected 1 or more"),
    ("training.batch_size=true", "training.batch_size: found true; expected a whole number."),
    ("optim.learning_rate=fast", "optim.learning_rate: found the text 'fast'; expected a number."),
    ("optim.learning_rate=0", "expected more than 0"),
    ("training.layout=paded", "expected one of auto, padded, packed, shared. Did you mean padded?"),
    ("training.save_steps=-1", "found -1; expected 0 or more"),
    ("data.validation=110", "data.validation: found 110.0; expected 0 or more and less than 1"),
    ("data.columns=chosen", "data.columns: found the text 'chosen'; expected a mapping to text."),
    ("model.lora={r: many}", "model.lora.r: found the text 'many'; expected a whole number."),
    (
        "data.train=[{source: x.jsonl, weight: heavy}]",
        "data.train.0.weight: found the text 'heavy'; expected a number.",
    ),
    (
        "data.train=3",
        "data.train: found 3; expected text or a list of section with source, weight, name, columns, split.",
    ),
    ("method.name=dpoo", "no such method: dpoo"),
    ("method.name=sigmoid", "method.name: sigmoid: here `dpo`"),
    ("method=dpo", "write `method: {name: dpo}`"),
    ("method.name=nowhere.module:Loss", "No module named 'nowhere'"),
    ("training=fast", "training: found the text 'fast'; expected a section with output_dir"),
    ("optim.optim=adamw_torch", "no such optimiser: adamw_torch"),
    ("optim.lr_scheduler_type=cosin", "Did you mean cosine?"),
    ("optim.optim_args={lr: 1}", "optim.optim_args.lr: has a key of its own: optim.learning_rate"),
    (
        "logging.report_to=[wandbb]",
        "no such tracker: wandbb; there are tensorboard, wandb, trackio. Did you mean wandb?",
    ),
    ("data.columns={promt: instruction}", "data.columns.promt: no such column"),
    ("data.columns={prompt: '{instrction}'}", "has no column instrction"),
    ("optim.weight_decay=.nan", "optim.weight_decay: found NaN"),
]


@pytest.mark.parametrize(("override", "told"), WRONG)
def test_wrong_values_say_what_was_found_and_what_is_accepted(override: str, told: str):
    found = mistakes("dpo", override)
    assert len(found) == 1, found
    assert told in found[0]


COMBINATIONS = [
    (["training.max_steps=5", "training.num_train_epochs=1"], "training.max_steps: conflicts with num_train_epochs"),
    (["training.per_device_train_batch_size=2"], "training.per_device_train_batch_size: conflicts with batch_size: 32"),
    (["training.gradient_accumulation_steps=2"], "training.gradient_accumulation_steps: stands alone"),
    (["data.validation=null"], "training.eval_steps: needs data.validation"),
    (
        ["training.eval_steps=null", "training.early_stopping_patience=2"],
        "early_stopping_patience: needs training.eval_steps",
    ),
    (["optim.warmup_steps=3"], "optim.warmup_steps: conflicts with warmup_ratio: 0.1"),
    (["optim.lr_scheduler_type=constant"], "constant has no warm-up"),
    (["model.reference=adapter_off"], "model.reference: adapter_off needs model.lora"),
    (["model.config={model_type: llama}"], "model.config: conflicts with model_name_or_path"),
    (["model.model_name_or_path=null"], "model.model_name_or_path: missing"),
    (["method.name=simpo", "model.reference=copy"], "model.reference: simpo has no reference model; remove the key"),
    (["method.name=kto", "training.batch_size=1"], "kto compares rows of a step and needs 2 or more"),
    (
        ["method.name=reward_model", "method.beta=null", "model.reference=null"],
        "logging.num_completions: reward_model trains a scalar head",
    ),
    (["data.test=0.95", "data.validation=0.1"], "leave no row to train on"),
    (["data.train=null"], "data.train: missing"),
]


@pytest.mark.parametrize(("overrides", "told"), COMBINATIONS)
def test_combinations_without_meaning_are_refused(overrides: list[str], told: str):
    assert any(told in m for m in mistakes("dpo", *overrides))


def test_a_model_from_a_config_wants_a_tokenizer_and_an_architecture():
    found = mistakes("dpo", "model.model_name_or_path=null", "model.config={hidden_size: 8}")
    assert [m.split(": ")[1] for m in found] == ["model.config.model_type", "model.tokenizer_name_or_path"]


def test_missing_files_are_found_before_anything_is_loaded(tmp_path: Path, write: Any):
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "model").mkdir()
    path = write(
        model={"model_name_or_path": str(tmp_path / "model"), "ref_model_name_or_path": "./nowhere"},
        data={"train": str(tmp_path / "row.jsonl"), "validation": "asset:polite", "test": str(tmp_path / "empty.jsonl"),
              "chat_template": "missing.jinja"},
    )  # fmt: skip
    found = {m.split(": ")[1]: m for m in mistakes(path)}
    assert "Did you mean rows.jsonl?" in found["data.train"]
    assert "asset:polite_pairs/train.jsonl" in found["data.validation"]
    assert "empty" in found["data.test"]
    assert "missing.jinja" in found["data.chat_template"]
    assert "holds no config.json" in found["model.model_name_or_path"]
    assert "no such folder: ./nowhere" in found["model.ref_model_name_or_path"]
    assert all(m.startswith(f"{path}: ") for m in found.values())


def test_a_reference_with_another_vocabulary_is_refused(tmp_path: Path, write: Any):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": 99}))
    found = mistakes(write(model={"ref_model_name_or_path": str(tmp_path)}))
    assert any("its vocabulary has 99 tokens, the model's 512" in m for m in found)


def test_the_first_row_is_looked_at(write: Any, tmp_path: Path):
    (tmp_path / "rows.jsonl").write_text(json.dumps({"prompt": "a", "chosen": "b"}) + "\n")
    assert any("row 1: no `rejected`" in m for m in mistakes(write()))


def test_all_mistakes_come_in_one_report_each_once():
    wrong = ["method.bta=1", "training.batch_size=x", "optim.warmup_steps=3", "data.train=x.jsonl", "nonsense"]
    found = mistakes("dpo", *wrong, "model.reference=adapter_off")
    keys = [m.removeprefix("command line: ").split(":")[0] for m in found]
    assert sorted(keys) == [
        "data.train",
        "method.bta",
        "model.reference",
        "nonsense",
        "optim.warmup_steps",
        "training.batch_size",
    ]


def test_keys_that_stand_twice_and_inheritance_are_refused(tmp_path: Path):
    path = tmp_path / "twice.yaml"
    path.write_text("method: {name: dpo}\ntraining:\n  seed: 1\n  seed: 2\ndata:\n  <<: {train: x}\n")
    found = mistakes(path)
    assert f"{path}: seed: stands twice, in lines 3 and 4; keep one" in found
    assert any("data.<<: no such key" in m for m in found)


@pytest.mark.parametrize("text", ["just words", "- a\n- b", "a: [1", "", "a: b: c"])
def test_what_is_no_recipe_at_all(text: str, tmp_path: Path):
    path = tmp_path / "no.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"no\.yaml"):
        load_recipe(path)


def test_a_recipe_that_is_not_there_names_the_nearest():
    with pytest.raises(UserError, match=r"there are .*addition, .*Did you mean simpo\?"):
        load_recipe("simp")
