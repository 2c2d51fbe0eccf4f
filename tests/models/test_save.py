"""What is written can be read by transformers alone, and is the model that was trained."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import STORIES, random_ids, shake, word_tokenizer
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GenerationConfig,
)

from align.errors import RunError, UserError
from align.models import save
from align.models.fresh import make_fresh
from align.models.load import load_policy
from align.models.save import export, fingerprint, save_final
from align.models.settings import LoraSection, ModelSection
from align.models.tokenizer import PAD, load_tokenizer

LORA = LoraSection(r=4, lora_alpha=8)
TURNS = "{% for m in messages %}{{ m.content + ' <end>' }}{% endfor %}"


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "gemma2", "opt", "mixtral"])
def test_a_saved_model_is_the_same_in_transformers(load_tiny, tmp_path, model_type):
    model, tokenizer, *_ = load_tiny(model_type)
    shake(model, "")
    save_final(model, tokenizer, tmp_path / "final")
    again = AutoModelForCausalLM.from_pretrained(
        tmp_path / "final", attn_implementation=model.config._attn_implementation
    )
    ids = random_ids()
    torch.testing.assert_close(again.eval()(ids).logits, model(ids).logits, rtol=1e-6, atol=1e-6)
    assert AutoTokenizer.from_pretrained(tmp_path / "final").get_vocab() == tokenizer.get_vocab()


@pytest.mark.parametrize("lora", [None, LORA])
def test_all_stops_and_the_template_travel(load_tiny, tmp_path, lora):
    model, tokenizer, *_ = load_tiny("llama", add_tokens=["<end>"], lora=lora)
    tokenizer.chat_template = TURNS
    inner = model.get_base_model() if lora else model
    inner.generation_config.eos_token_id = [1]
    inner.generation_config.temperature = 0.7  # without do_sample transformers would refuse to save it
    save_final(model, tokenizer, tmp_path / "final")
    written = GenerationConfig.from_pretrained(tmp_path / "final")
    assert written.eos_token_id == [1, 2, 512]
    assert AutoTokenizer.from_pretrained(tmp_path / "final").chat_template == TURNS


@pytest.mark.parametrize("lora", [None, LORA])
def test_who_may_read_the_config_may_read_the_weights(load_tiny, tmp_path, lora):
    model, tokenizer, *_ = load_tiny("llama", lora=lora)
    save_final(model, tokenizer, tmp_path / "final")
    modes = {file.stat().st_mode for file in (tmp_path / "final").iterdir()}
    (tmp_path / "like").touch()
    assert modes == {(tmp_path / "like").stat().st_mode}


@pytest.mark.parametrize("tied", [True, False])
def test_gathered_weights_are_saved_in_place_of_the_models_own(load_tiny, tmp_path, tied):
    model, tokenizer, *_ = load_tiny("llama", changes={"tie_word_embeddings": tied})
    gathered = {name: value.clone() + 0.25 for name, value in model.state_dict().items()}  # tied twins are two tensors
    save_final(model, tokenizer, tmp_path / "final", state_dict=gathered)
    stored = load_file(tmp_path / "final/model.safetensors")
    assert ("lm_head.weight" in stored) != tied
    assert all(torch.equal(value, gathered[name]) for name, value in stored.items())


def test_a_gathered_adapter_is_saved_in_place_of_the_models_own(load_tiny, tmp_path):
    model, tokenizer, _, folder = load_tiny("llama", lora=LORA, add_tokens=["<a>"])
    other, *_ = load_tiny("llama", lora=LORA, add_tokens=["<a>"])
    shake(other)
    shake(other, "trainable_tokens")
    save_final(model, tokenizer, tmp_path / "final", state_dict=other.state_dict())
    again = ModelSection(model_name_or_path=str(tmp_path / "final"))
    loaded = load_policy(again, load_tokenizer(again), "lm", folder).eval()
    ids = random_ids()
    torch.testing.assert_close(loaded(ids).logits, other(ids).logits, rtol=0, atol=0)


def test_saving_again_replaces_and_leaves_nothing_beside(load_tiny, tmp_path):
    model, tokenizer, *_ = load_tiny("llama")
    save_final(model, tokenizer, tmp_path / "final")
    (tmp_path / "final/old").write_text("")
    save_final(model, tokenizer, tmp_path / "final")
    assert [p.name for p in tmp_path.iterdir()] == ["final"]
    assert not (tmp_path / "final/old").exists()


def _last_scores(model, rows):
    """The score at each row's last token, one row at a time."""
    return torch.cat([model(input_ids=torch.tensor([row])).logits[:, 0] for row in rows])


@torch.no_grad()
@pytest.mark.parametrize("model_type", ["llama", "gpt2", "gpt_neox", "opt", "falcon"])
def test_a_scalar_model_gives_the_same_scores_in_transformers(load_tiny, tmp_path, model_type):
    model, tokenizer, *_ = load_tiny(model_type, "scalar")
    shake(model, "score")
    save_final(model, tokenizer, tmp_path / "final")
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "final").eval()
    theirs = AutoTokenizer.from_pretrained(tmp_path / "final")
    rows = [[1, 40, 50, 60, 2], [1, 70, 2], [1, 80, 90, 100]]  # two end with EOS, one is cut
    batch = theirs.pad({"input_ids": rows}, padding=True, return_tensors="pt")
    assert again.config.num_labels == 1
    torch.testing.assert_close(again(**batch).logits[:, 0], _last_scores(model, rows), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_scores_hold_where_eos_is_the_only_special_token(tmp_path):
    word_tokenizer(tmp_path / "words", eos_token="</s>", bos_token="</s>", unk_token="</s>")
    section = ModelSection(
        config={"model_type": "llama", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
                "intermediate_size": 16, "initializer_range": 0.5},
        tokenizer_name_or_path=str(tmp_path / "words"),
    )  # fmt: skip
    make_fresh(section, load_tokenizer(section), 0, tmp_path / "init")
    tokenizer = load_tokenizer(section, "scalar")
    model = load_policy(section, tokenizer, "scalar", tmp_path / "init").eval()
    save_final(model, tokenizer, tmp_path / "final")
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "final").eval()
    theirs = AutoTokenizer.from_pretrained(tmp_path / "final")
    assert theirs.pad_token == PAD
    rows = [[5, 6, 7, 0], [8, 0]]
    batch = theirs.pad({"input_ids": rows}, padding=True, return_tensors="pt")
    torch.testing.assert_close(again(**batch).logits[:, 0], _last_scores(model, rows), rtol=1e-5, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(
    ("model_type", "lora", "changes", "tokens"),
    [
        ("llama", LORA, {"tie_word_embeddings": True}, ["<a>"]),
        ("llama", LORA, {"tie_word_embeddings": False}, ["<a>"]),
        ("qwen3", LoraSection(r=4, use_dora=True), {}, []),
        ("gpt2", LORA, {}, []),
        ("gemma2", None, {}, []),
    ],
)
def test_an_export_is_the_merged_model(load_tiny, tmp_path, model_type, lora, changes, tokens):
    model, tokenizer, *_ = load_tiny(model_type, lora=lora, changes=changes, add_tokens=tokens)
    shake(model, "lora_" if lora else "")
    shake(model, "trainable_tokens")
    tokenizer.chat_template = TURNS
    save_final(model, tokenizer, tmp_path / "run/final")
    assert export(tmp_path / "run", tmp_path / "out").gap < 1e-4
    assert not list((tmp_path / "out").glob("adapter*"))
    again = AutoModelForCausalLM.from_pretrained(
        tmp_path / "out", attn_implementation=model.get_base_model().config._attn_implementation if lora else "eager"
    )
    ids = random_ids()
    ids[0, 2] = len(tokenizer) - 1
    torch.testing.assert_close(again.eval()(ids).logits, model(ids).logits, rtol=1e-3, atol=1e-3)
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template == TURNS
    assert 2 in GenerationConfig.from_pretrained(tmp_path / "out").eos_token_id


@torch.no_grad()
def test_a_scalar_export(load_tiny, tmp_path):
    model, tokenizer, *_ = load_tiny("llama", "scalar", lora=LORA)
    shake(model)
    shake(model, "score")
    save_final(model, tokenizer, tmp_path / "final")
    export(tmp_path / "final", tmp_path / "out")
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    ids = random_ids()
    torch.testing.assert_close(again(ids).logits, model(ids).logits, rtol=1e-4, atol=1e-4)


def test_an_export_keeps_the_precision_on_disk(tmp_path):
    section = ModelSection(model_name_or_path=STORIES, dtype="bfloat16")
    tokenizer = load_tokenizer(section)
    save_final(load_policy(section, tokenizer, "lm", tmp_path), tokenizer, tmp_path / "half")
    export(tmp_path / "half", tmp_path / "out")
    assert json.loads((tmp_path / "out/config.json").read_text())["dtype"] == "bfloat16"
    assert {v.dtype for v in load_file(tmp_path / "out/model.safetensors").values()} == {torch.bfloat16}


@pytest.mark.parametrize("lora", [None, LORA])
def test_an_export_has_the_precision_that_training_began_with(tmp_path, lora):
    """bfloat16 weights are trained as float32; through several runs the first one's dtype is remembered."""
    half = ModelSection(model_name_or_path=STORIES, dtype="bfloat16")
    tokenizer = load_tokenizer(half)
    save_final(load_policy(half, tokenizer, "lm", tmp_path), tokenizer, tmp_path / "base")
    name = str(tmp_path / "base")
    for run in ("first", "second"):
        section = ModelSection(model_name_or_path=name, lora=lora if run == "first" else None)
        save_final(load_policy(section, tokenizer, "lm", tmp_path), tokenizer, tmp_path / run / "final", base_name=name)
        name = str(tmp_path / run)
    if not lora:
        assert {v.dtype for v in load_file(tmp_path / "second/final/model.safetensors").values()} == {torch.float32}
    for dtype in ("", "float32", "float16"):
        done = export(name, tmp_path / f"out{dtype}", dtype)
        assert done.dtype == (dtype or "bfloat16")
        assert {v.dtype for v in load_file(tmp_path / f"out{dtype}/model.safetensors").values()} == {
            getattr(torch, done.dtype)
        }
    assert str(export(name, tmp_path / "again")).endswith("of the largest (3e-02 is what bfloat16 may leave)")


def test_weights_that_float16_cannot_hold_are_refused(load_tiny, tmp_path):
    model, tokenizer, *_ = load_tiny("llama")
    with torch.no_grad():
        model.model.norm.weight[0] = 7e4
    save_final(model, tokenizer, tmp_path / "final")
    with pytest.raises(UserError, match=r"model\.norm\.weight has weights beyond 65504"):
        export(tmp_path / "final", tmp_path / "out", "float16")


def test_an_export_whose_numbers_do_not_come_back_is_refused(tmp_path, monkeypatch):
    written = save.save_final

    def damaged(model, tokenizer, directory):
        model.model.layers[0].mlp.up_proj.weight.data.mul_(1.1)
        written(model, tokenizer, directory)

    monkeypatch.setattr(save, "save_final", damaged)
    with pytest.raises(RunError, match="not the model that was trained"):
        export(STORIES, tmp_path / "out")


def test_an_export_overwrites_nothing(tmp_path):
    (tmp_path / "mine").write_text("")
    with pytest.raises(UserError, match="exists and is not empty"):
        export(STORIES, tmp_path)


def test_fingerprints_tell_weights_apart(load_tiny, tmp_path, repository):
    folder = tmp_path / "copy"
    shutil.copytree(repository / "align/assets/stories260k", folder)
    assert fingerprint(folder) == fingerprint(STORIES)
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    assert fingerprint(folder) != fingerprint(STORIES)
    model, *_ = load_tiny("llama")
    same, *_ = load_tiny("llama")
    assert fingerprint(model) == fingerprint(same)
    with torch.no_grad():
        same.model.norm.weight[0].add_(1e-6)
    assert fingerprint(model) != fingerprint(same)
