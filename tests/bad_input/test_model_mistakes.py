"""What a user gets wrong in a model folder, by the real command: one message with place, finding and cure."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from mistakes import STORIES, Told, assert_nothing_was_begun
from safetensors.torch import load_file, save_file

from align.cli.main import main


def copy_of(name: str, *without: str, **config: Any) -> str:
    """The shipped model in a folder `name`, without some files, with another config; named as a recipe would."""
    shutil.copytree(STORIES, name, ignore=shutil.ignore_patterns(*without))
    path = Path(name, "config.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    return f"model.model_name_or_path={name}"


def test_a_folder_without_weights_is_found_by_check(told: Told, capsys: pytest.CaptureFixture[str]):
    word = copy_of("hollow", "*.safetensors")
    assert main(["check", "mine.yaml", word]) == 2
    assert "model.model_name_or_path: " in (said := capsys.readouterr().err)
    assert "hollow: no *.safetensors; give a folder with weights" in said
    Path("hollow/pytorch_model.bin").touch()
    assert "has pytorch_model.bin but no *.safetensors; pickles are never loaded" in told(word)


def test_folders_without_a_usable_tokenizer(told: Told):
    assert "bare holds no tokenizer; name one with model.tokenizer_name_or_path" in told(copy_of("bare", "tokenizer*"))
    word = copy_of("endless")
    settings = json.loads(Path("endless/tokenizer_config.json").read_text())
    del settings["eos_token"]
    Path("endless/tokenizer_config.json").write_text(json.dumps(settings))
    message = told(word)
    assert "endless: the tokenizer has no end-of-sequence token; name one of its tokens as eos_token in" in message
    assert "pad_token" not in (STORIES / "tokenizer_config.json").read_text(), "every run here shows it is not needed"
    assert_nothing_was_begun()


def test_folders_that_are_damaged(told: Told):
    word = copy_of("model")
    Path("model/model.safetensors").write_bytes((STORIES / "model.safetensors").read_bytes()[:5000])
    assert "model: cannot be loaded: " in told(word)
    Path("model/config.json").write_text("{")
    assert "model/config.json is not valid JSON" in told(word)
    assert "is a file; expected a folder" in told("model.model_name_or_path=model/config.json")
    message = told("model.model_name_or_path=asset:stories")
    assert "asset:stories: no such asset" in message
    assert "Did you mean asset:stories260k?" in message
    assert_nothing_was_begun()


def test_a_reference_with_another_vocabulary(told: Told):
    copy_of("larger", vocab_size=600)
    message = told("model.ref_model_name_or_path=larger")
    assert "its vocabulary has 600 tokens, the model's 512; the reference must read the same token ids" in message
    copy_of("swapped")
    tokenizer = json.loads(Path("swapped/tokenizer.json").read_text())
    words = tokenizer["model"]["vocab"]
    one, other = list(words)[300:302]
    words[one], words[other] = words[other], words[one]
    Path("swapped/tokenizer.json").write_text(json.dumps(tokenizer))
    message = told("model.ref_model_name_or_path=swapped")
    assert "2 tokens differ, the first" in message
    assert "policy and reference must share one tokenizer" in message
    assert_nothing_was_begun()


def test_weights_that_are_not_numbers_are_refused_by_name(told: Told):
    word = copy_of("poisoned")
    weights = load_file("poisoned/model.safetensors")
    name = sorted(weights)[3]
    weights[name].view(-1)[7] = torch.nan
    save_file(weights, "poisoned/model.safetensors", metadata={"format": "pt"})
    message = told(word)
    assert f"poisoned: its weights hold NaN or infinity in 1 of {len(weights)} tensors, the first {name}" in message
    assert "take an earlier checkpoint or another model" in message
    assert_nothing_was_begun()


FRESH = (
    "model.model_name_or_path=null",
    "model.tokenizer_name_or_path=asset:stories260k",
)
LLAMA = (
    "model.config={model_type: llama, hidden_size: %d, num_hidden_layers: 1, num_attention_heads: 2, "
    "intermediate_size: 16}"
)


def test_a_mistake_after_fresh_weights_leaves_the_folder_free(told: Told):
    assert "matches nothing" in told(*FRESH, LLAMA % 16, "model.lora={target_modules: [q_prj]}")
    assert_nothing_was_begun()
    told(*FRESH, LLAMA % 8, "training.max_steps=1", code=0)


def test_rows_beyond_the_models_positions(told: Told, capsys: pytest.CaptureFixture[str]):
    gpt2 = "model.config={model_type: gpt2, n_embd: 16, n_layer: 1, n_head: 2, n_positions: 48}"
    assert "data.max_length: found 64, but gpt2 has a table of 48 positions; set 48 or less" in told(*FRESH, gpt2)
    assert_nothing_was_begun()
    assert main(["check", "mine.yaml", "data.max_length=600"]) == 0
    note = "note: data.max_length: 600 is more than the 512 positions that the model was made for"
    assert note in capsys.readouterr().out
