"""LoRA and DoRA: what they train, what comes back from a folder, what they leave of the model beneath."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from tiny_models import STORIES, config_of, random_ids, shake

from align.errors import UserError
from align.models.adapters import reference_kind
from align.models.fresh import make_fresh
from align.models.frozen import adapter_off, frozen_copy
from align.models.load import load_policy
from align.models.save import save_final
from align.models.settings import LoraSection, ModelSection
from align.models.tokenizer import load_tokenizer

LORA = LoraSection(r=4, lora_alpha=8)
DORA = LoraSection(r=4, lora_alpha=8, use_dora=True)


def _reload(folder, head="lm", **keys):
    section = ModelSection(model_name_or_path=str(folder), **keys)
    tokenizer = load_tokenizer(section, head)
    return load_policy(section, tokenizer, head, folder).eval(), tokenizer, section


@pytest.mark.parametrize("lora", [LORA, DORA, LoraSection(r=2, use_rslora=True, target_modules=["q_proj"])])
def test_a_new_adapter_adds_nothing_and_a_trained_one_comes_back(load_tiny, tmp_path, lora):
    ids = random_ids()
    base, *_ = load_tiny("llama")
    model, tokenizer, *_ = load_tiny("llama", lora=lora)
    torch.testing.assert_close(model(ids).logits, base(ids).logits, rtol=1e-5, atol=1e-5)
    shake(model)
    trained = model(ids).logits
    assert (trained - base(ids).logits).abs().max() > 0.1
    save_final(model, tokenizer, tmp_path / "final")
    again, *_ = _reload(tmp_path / "final")
    torch.testing.assert_close(again(ids).logits, trained, rtol=0, atol=0)
    assert {n for n, p in again.named_parameters() if p.requires_grad} == {
        n for n, p in model.named_parameters() if p.requires_grad
    }


@pytest.mark.parametrize("lora", [LORA, DORA])
def test_switched_off_it_is_the_model_beneath_and_nothing_else_changes(load_tiny, lora):
    ids = random_ids()
    base, *_ = load_tiny("gpt2")
    model, *_ = load_tiny("gpt2", lora=lora)
    shake(model)
    model.train()
    trained = {name: p.requires_grad for name, p in model.named_parameters()}
    before = model(ids).logits
    with adapter_off(torch.nn.Sequential(model)):  # as it stands inside a wrapper
        torch.testing.assert_close(model(ids).logits, base(ids).logits, rtol=0, atol=0)
    torch.testing.assert_close(model(ids).logits, before, rtol=0, atol=0)
    assert {name: p.requires_grad for name, p in model.named_parameters()} == trained
    assert model.training


@pytest.mark.parametrize("tied", [True, False])
def test_added_tokens_are_trained_and_come_back_with_the_adapter(load_tiny, tmp_path, tied):
    changes = {"tie_word_embeddings": tied}
    model, tokenizer, *_ = load_tiny("llama", lora=LORA, add_tokens=["<a>", "<b>"], changes=changes)
    ids = random_ids()
    ids[0, 3:5] = torch.tensor([512, 513])
    loss = model(ids, labels=ids).loss
    loss.backward()
    rows = {name: p for name, p in model.named_parameters() if "trainable_tokens_delta" in name and p.requires_grad}
    assert {tuple(p.shape) for p in rows.values()} == {(2, 32)}
    assert len(rows) == (1 if tied else 2)
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in rows.values())
    shake(model, "lora_")
    shake(model, "trainable_tokens")
    trained = model(ids).logits
    with adapter_off(model):
        assert (model(ids).logits - trained).abs().max() > 0.1
    save_final(model, tokenizer, tmp_path / "final")
    again, tokenizer_again, *_ = _reload(tmp_path / "final")
    assert tokenizer_again.get_vocab() == tokenizer.get_vocab()
    torch.testing.assert_close(again(ids).logits, trained, rtol=0, atol=0)
    with adapter_off(model), adapter_off(again):
        torch.testing.assert_close(again(ids).logits, model(ids).logits, rtol=0, atol=0)
    size = (tmp_path / "final/adapter_model.safetensors").stat().st_size
    assert size < 60_000  # the rows, not the table of 514 x 32 float32


def test_own_head_sees_the_trained_rows(load_tiny):
    from align.models.parts import head_gap

    for tied in (True, False):
        model, *_ = load_tiny("llama", lora=LORA, add_tokens=["<a>"], changes={"tie_word_embeddings": tied})
        shake(model, "trainable_tokens")
        assert head_gap(model, torch.full((1, 4), 512)) < 1e-5


def test_a_scalar_head_is_trained_and_saved_with_its_adapter(load_tiny, tmp_path):
    model, tokenizer, *_ = load_tiny("llama", "scalar", lora=LORA)
    shake(model)
    shake(model, "score")
    save_final(model, tokenizer, tmp_path / "final")
    again, *_ = _reload(tmp_path / "final", "scalar")
    ids = random_ids()
    torch.testing.assert_close(again(ids).logits, model(ids).logits, rtol=0, atol=0)
    assert any("score" in n for n, p in again.named_parameters() if p.requires_grad)
    with pytest.raises(UserError, match=r"adapter is for SEQ_CLS.*align export"):
        _reload(tmp_path / "final", "lm")


def test_a_target_that_matches_nothing_lists_what_there_is(load_tiny):
    with pytest.raises(UserError, match=r"'query' matches nothing.*k_proj.*or write all-linear"):
        load_tiny("llama", lora=LoraSection(target_modules="query"))
    with pytest.raises(UserError, match=r"matches nothing in GPT2LMHeadModel.*c_attn"):
        load_tiny("gpt2", lora=LoraSection(target_modules=["q_proj", "v_proj"]))


def test_an_adapter_goes_on_as_it_is(load_tiny, tmp_path):
    model, tokenizer, *_ = load_tiny("llama", lora=LORA)
    shake(model)
    save_final(model, tokenizer, tmp_path / "run/final")
    (tmp_path / "run/recipe.yaml").write_text("")
    same, _, section = _reload(tmp_path / "run", lora=LORA)
    reference = frozen_copy(section, tokenizer, "lm", tmp_path)
    ids = random_ids()
    torch.testing.assert_close(reference(ids).logits, same(ids).logits, rtol=0, atol=0)
    assert not any(p.requires_grad for p in reference.parameters())
    with pytest.raises(UserError, match=r"model.lora.r: 8, but the adapter in .* has 4"):
        _reload(tmp_path / "run", lora=LoraSection(r=8, lora_alpha=8))
    with pytest.raises(UserError, match=r"model.add_tokens: .* holds an adapter already"):
        _reload(tmp_path / "run", add_tokens=["<a>"])


def test_reference_kinds(load_tiny, tmp_path):
    model, tokenizer, *_ = load_tiny("llama", lora=LORA)
    save_final(model, tokenizer, tmp_path / "final")
    plain, old = {"model_name_or_path": STORIES}, {"model_name_or_path": str(tmp_path / "final")}
    assert reference_kind(ModelSection(**plain)) == "copy"
    assert reference_kind(ModelSection(**plain, lora=LORA)) == "adapter_off"
    assert reference_kind(ModelSection(config=config_of("llama"), lora=LORA)) == "adapter_off"
    assert reference_kind(ModelSection(**plain, lora=LORA, ref_model_name_or_path=STORIES)) == "copy"
    assert reference_kind(ModelSection(**plain, lora=LORA, reference="copy")) == "copy"
    assert reference_kind(ModelSection(**old)) == "copy"
    assert reference_kind(ModelSection(**old, lora=LORA)) == "copy"
    assert reference_kind(ModelSection(**plain, reference="cached")) == "cached"
    for section, reason in [
        (ModelSection(**plain, reference="adapter_off"), "there is no adapter"),
        (ModelSection(**old, lora=LORA, reference="adapter_off"), "brings an adapter"),
        (ModelSection(**plain, lora=LORA, reference="adapter_off", ref_model_name_or_path=STORIES), "another model"),
    ]:
        with pytest.raises(UserError, match=reason):
            reference_kind(section)


def test_a_run_folder_with_its_fresh_base_can_be_moved(load_tiny, tmp_path):
    *_, folder = load_tiny("llama")
    section = ModelSection(config=config_of("llama"), tokenizer_name_or_path=STORIES, lora=LORA)
    shutil.copytree(folder, tmp_path / "run/init")
    tokenizer = load_tokenizer(section)
    model = load_policy(section, tokenizer, "lm", tmp_path / "run/init").eval()
    shake(model)
    save_final(model, tokenizer, tmp_path / "run/final")
    (tmp_path / "run").rename(tmp_path / "moved")
    again, *_ = _reload(tmp_path / "moved")
    ids = random_ids()
    torch.testing.assert_close(again(ids).logits, model(ids).logits, rtol=0, atol=0)


def test_tokens_added_to_a_fresh_base_come_back_with_the_adapter_on_and_off(tmp_path):
    section = ModelSection(
        config=config_of("llama"), tokenizer_name_or_path=STORIES, lora=LORA, add_tokens=["<a>", "<b>"]
    )
    tokenizer = load_tokenizer(section)
    make_fresh(section, tokenizer, 0, tmp_path / "run/init")
    model = load_policy(section, tokenizer, "lm", tmp_path / "run/init").eval()
    shake(model, "")
    save_final(model, tokenizer, tmp_path / "run/final")
    again, *_ = _reload(tmp_path / "run")
    ids = torch.tensor([[1, 512, 40, 513, 60]])
    torch.testing.assert_close(again(ids).logits, model(ids).logits, rtol=0, atol=0)
    with adapter_off(model), adapter_off(again):
        torch.testing.assert_close(again(ids).logits, model(ids).logits, rtol=0, atol=0)


def test_a_base_that_has_changed_or_gone_is_noticed(load_tiny, tmp_path):
    *_, folder = load_tiny("llama")
    shutil.copytree(folder, tmp_path / "base")
    section = ModelSection(model_name_or_path=str(tmp_path / "base"), tokenizer_name_or_path=STORIES, lora=LORA)
    tokenizer = load_tokenizer(section)
    save_final(load_policy(section, tokenizer, "lm", tmp_path), tokenizer, tmp_path / "run/final")
    weights = tmp_path / "base/model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(UserError, match=r"was trained on other weights than .*base holds now"):
        _reload(tmp_path / "run")
    shutil.rmtree(tmp_path / "base")
    with pytest.raises(UserError, match="the adapter's base model is gone"):
        _reload(tmp_path / "run")


def test_adapters_that_do_not_fit(load_tiny, tmp_path):
    model, tokenizer, *_ = load_tiny("llama", lora=LORA)
    save_final(model, tokenizer, tmp_path / "final")
    settings = tmp_path / "final/adapter_config.json"
    written = json.loads(settings.read_text())
    settings.write_text(json.dumps({**written, "r": 2}))
    with pytest.raises(UserError, match="its adapter does not fit"):
        _reload(tmp_path / "final")
    settings.write_text(json.dumps(written))
    (tmp_path / "final/adapter_model.safetensors").rename(tmp_path / "final/adapter_model.bin")
    with pytest.raises(UserError, match="pickles are never loaded"):
        _reload(tmp_path / "final")
