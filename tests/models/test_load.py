"""Folders, fresh weights and scalar heads; what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import STORIES, config_of, random_ids, word_tokenizer

from align.errors import UserError
from align.models.fresh import make_fresh
from align.models.frozen import frozen_copy
from align.models.load import load_policy
from align.models.parts import scalar_head
from align.models.settings import ModelSection
from align.models.tokenizer import load_tokenizer

NOWHERE = Path("/nowhere")
ASSET = Path(__file__).parents[2] / "align/assets/stories260k"


def _policy(name, head="lm", **keys):
    section = ModelSection(model_name_or_path=str(name), **keys)
    return load_policy(section, load_tokenizer(section, head), head, NOWHERE)


def _copy(tmp_path, **config) -> Path:
    """The shipped model with some keys of its config.json changed."""
    folder = tmp_path / "model"
    shutil.copytree(ASSET, folder)
    old = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**old, **config}))
    return folder


def _make(folder, seed=0, **changes):
    section = ModelSection(config=config_of("llama", **changes), tokenizer_name_or_path=STORIES)
    make_fresh(section, load_tokenizer(section), seed, folder)
    return load_file(folder / "model.safetensors")


def test_fresh_weights_are_a_function_of_the_seed_alone(tmp_path):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first, other = _make(tmp_path / "a", seed=1), _make(tmp_path / "b", seed=2)
    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)  # the caller's random state has not moved
    again = _make(tmp_path / "c", seed=1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["model.embed_tokens.weight"], other["model.embed_tokens.weight"])


def test_fresh_weights_are_made_once(tmp_path):
    _make(tmp_path / "a")
    before = (tmp_path / "a/model.safetensors").stat().st_mtime_ns
    _make(tmp_path / "a")
    assert (tmp_path / "a/model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(UserError, match=r"another model\.config, tokenizer or seed"):
        _make(tmp_path / "a", seed=1)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "lama"}, "knows no lama. Did you mean"),
        ({"hidden_size": 8}, "model_type: missing"),
        (
            config_of("llama", hiden_size=8),
            r"model.config.hiden_size: llama has no such key. Did you mean hidden_size\?",
        ),
        (config_of("llama", vocab_size=100), "vocab_size: 100, but the tokenizer has 512"),
        (config_of("llama", hidden_size="wide"), "refuses it: .*'hidden_size' expected int, got str"),
        ({"model_type": "t5"}, "no causal language model for t5"),
    ],
)
def test_configs_that_cannot_be_built(tmp_path, config, message):
    section = ModelSection(config=config, tokenizer_name_or_path=STORIES)
    with pytest.raises(UserError, match=message):
        make_fresh(section, load_tokenizer(section), 0, tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_dropout_is_off_unless_asked_for(load_tiny):
    ids = random_ids()
    model, *_ = load_tiny("gpt2")  # its config's own rates are 0.1
    torch.testing.assert_close(model.train()(ids).logits, model.eval()(ids).logits, rtol=0, atol=0)
    asked, *_ = load_tiny("gpt2", changes={"resid_pdrop": 0.5})
    assert (asked.train()(ids).logits - asked.eval()(ids).logits).abs().max() > 0.1
    scalar, *_ = load_tiny("gpt_neox", "scalar")
    assert not [m for m in scalar.modules() if isinstance(m, torch.nn.Dropout) and m.p > 0]


def test_the_shipped_model_predicts_its_stories():
    model = _policy(STORIES).eval()
    section = ModelSection(model_name_or_path=STORIES)
    ids = load_tokenizer(section)(
        "Once upon a time, there was a little girl named Lily.", return_tensors="pt"
    ).input_ids
    assert model.dtype == torch.float32
    assert float(model(input_ids=ids, labels=ids).loss.detach()) < 1.0  # uniform over 512 pieces would be 6.2 nats


def test_dtype_is_the_recipes_word():
    assert _policy(STORIES, dtype="bfloat16").dtype == torch.bfloat16


def test_a_scalar_head_keeps_the_backbone_and_starts_near_zero_and_equal():
    language, first, second = _policy(STORIES), _policy(STORIES, "scalar"), _policy(STORIES, "scalar")
    theirs = language.model.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in first.model.state_dict().items())
    head = scalar_head(first).weight
    assert torch.equal(head, scalar_head(second).weight)
    assert 0 < float(head.detach().norm()) < 0.2
    assert first.config.num_labels == 1


def test_every_embedding_row_learns_also_the_one_that_pads(load_tiny):
    model, tokenizer, *_ = load_tiny("llama", "scalar")
    ids = torch.tensor([[5, tokenizer.pad_token_id, 9]])
    scalar_head(model)(model.model(input_ids=ids).last_hidden_state[:, -1]).sum().backward()
    assert model.model.embed_tokens.weight.grad[tokenizer.pad_token_id].abs().max() > 0


def test_attention_kernels(load_tiny):
    assert load_tiny("llama")[0].config._attn_implementation == "sdpa"
    assert load_tiny("gemma2")[0].config._attn_implementation == "eager"
    with pytest.raises(UserError, match="sdpa drops gemma2's soft-capping"):
        load_tiny("gemma2", attn_implementation="sdpa")


def test_an_architecture_without_classifier_is_refused(load_tiny):
    with pytest.raises(UserError, match="no one-label sequence classifier for granite"):
        load_tiny("granite", "scalar")


def test_tokens_beyond_the_embeddings(tmp_path):
    word_tokenizer(tmp_path / "words", eos_token="</s>", unk_token="<unk>")
    section = ModelSection(config=config_of("llama", vocab_size=50), tokenizer_name_or_path=str(tmp_path / "words"))
    make_fresh(section, load_tokenizer(section), 0, tmp_path / "init")
    long = ModelSection(model_name_or_path=str(tmp_path / "init"), tokenizer_name_or_path=STORIES)
    with pytest.raises(UserError, match=r"has 50 embeddings, but 462 tokens of the tokenizer .* lie beyond.*\(50\)"):
        load_policy(long, load_tokenizer(long), "lm", NOWHERE)


@pytest.mark.parametrize("tied", [True, False])
def test_added_tokens_start_as_the_mean_of_the_others(load_tiny, tied):
    changes = {"tie_word_embeddings": tied}
    base, *_ = load_tiny("llama", changes=changes)
    model, tokenizer, *_ = load_tiny("llama", changes=changes, add_tokens=["<a>", "<b>"])
    assert len(tokenizer) == 514
    for before, after in (
        (base.get_input_embeddings().weight, model.get_input_embeddings().weight),
        (base.get_output_embeddings().weight, model.get_output_embeddings().weight),
    ):
        assert torch.equal(after[:512], before)
        torch.testing.assert_close(after[512:], before.mean(0).expand(2, -1))
    assert (model.get_input_embeddings().weight is model.get_output_embeddings().weight) == tied
    ids = random_ids()
    torch.testing.assert_close(model(ids).logits[..., :512], base(ids).logits)


def test_spare_rows_are_used_before_the_table_grows(load_tiny):
    model, *_ = load_tiny("opt", changes={"vocab_size": 520}, add_tokens=["<a>"])
    assert model.get_input_embeddings().weight.shape[0] == 520


def test_a_reference_is_a_copy_of_the_weights_that_were_passed(load_tiny):
    model, tokenizer, section, folder = load_tiny("llama", add_tokens=["<a>"])
    reference = frozen_copy(section, tokenizer, "lm", folder)
    ids = random_ids()
    assert torch.equal(reference(ids).logits, model(ids).logits)
    assert not reference.training
    assert not any(p.requires_grad for p in reference.parameters())
    assert all(p.requires_grad for p in model.parameters())


def test_a_reference_with_another_vocabulary_is_refused(tmp_path):
    word_tokenizer(tmp_path / "words", eos_token="</s>", unk_token="<unk>")
    other = ModelSection(config=config_of("llama"), tokenizer_name_or_path=str(tmp_path / "words"))
    make_fresh(other, load_tokenizer(other), 0, tmp_path / "other")
    shutil.copytree(tmp_path / "words", tmp_path / "other", dirs_exist_ok=True)
    section = ModelSection(model_name_or_path=STORIES, ref_model_name_or_path=str(tmp_path / "other"))
    with pytest.raises(UserError, match=r"ref_model_name_or_path.*vocabulary is not the policy's: 512 tokens differ"):
        frozen_copy(section, load_tokenizer(section), "lm", NOWHERE)


def test_pickles_are_never_loaded(tmp_path):
    folder = _copy(tmp_path)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"model: has pytorch_model.bin but no \*.safetensors.*convert once"):
        _policy(folder)
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(UserError, match=r"model: no \*.safetensors"):
        _policy(folder)


def test_weights_that_do_not_belong_to_the_config(tmp_path):
    with pytest.raises(UserError, match=r"lacks weights of a LlamaForCausalLM: model.layers.5"):
        _policy(_copy(tmp_path, num_hidden_layers=6))


def test_weights_of_another_width(tmp_path):
    with pytest.raises(UserError, match=r"cannot be loaded|lacks weights"):
        _policy(_copy(tmp_path, hidden_size=32))


def test_a_truncated_file_of_weights(tmp_path):
    folder = _copy(tmp_path)
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:5000])
    with pytest.raises(UserError, match="model: cannot be loaded"):
        _policy(folder)


def test_a_classifier_is_no_language_model(tmp_path):
    model = _policy(STORIES, "scalar")
    model.save_pretrained(tmp_path / "rm")
    tokenizer = load_tokenizer(ModelSection(model_name_or_path=STORIES))
    tokenizer.save_pretrained(tmp_path / "rm")
    with pytest.raises(UserError, match="rm: holds a one-label classifier"):
        _policy(tmp_path / "rm")


def test_foreign_code_needs_the_recipes_word(tmp_path):
    folder = _copy(tmp_path, model_type="homemade", auto_map={"AutoConfig": "code.C", "AutoModelForCausalLM": "code.M"})
    (folder / "code.py").write_text("raise SystemExit('ran foreign code')")
    with pytest.raises(UserError, match="trust_remote_code"):
        _policy(folder)


@pytest.mark.parametrize("text", ["{", '{"model_type": "homemade"}'])
def test_a_config_that_means_nothing(tmp_path, text):
    folder = _copy(tmp_path)
    (folder / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config\.json"):
        _policy(folder)


def test_two_sources_or_none():
    both = ModelSection(model_name_or_path=STORIES, config=config_of("llama"))
    with pytest.raises(UserError, match="both are given"):
        load_policy(both, load_tokenizer(both), "lm", NOWHERE)
    none = ModelSection(tokenizer_name_or_path=STORIES)
    with pytest.raises(UserError, match="model_name_or_path: missing"):
        load_policy(none, load_tokenizer(none), "lm", NOWHERE)


@pytest.mark.parametrize("place", ["../other/model.safetensors", "/etc/hostname", "pytorch_model.bin"])
def test_an_index_that_leads_out_of_its_folder_is_refused(tmp_path, place):
    folder = _copy(tmp_path)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"lm_head.weight": place}}))
    with pytest.raises(UserError, match="which is no safetensors file of this folder"):
        _policy(folder)
