"""What an adapter is put on: experts too, and never less than is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import random_ids, shake
from transformers import AutoConfig, AutoModelForCausalLM

from align.errors import UserError
from align.models.adapters import continue_adapter, new_adapter
from align.models.frozen import adapter_off
from align.models.settings import LoraSection
from align.models.targets import left_out, notes_of, refuse_sharded_experts, stacked

SIZES = {
    "hidden_size": 16, "intermediate_size": 16, "moe_intermediate_size": 16, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "vocab_size": 512, "num_experts_per_tok": 2,
    "initializer_range": 0.2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
EXPERTS = {"gpt_oss": "num_local_experts", "granitemoe": "num_local_experts", "mixtral": "num_local_experts",
           "qwen3_moe": "num_experts", "llama4_text": "num_local_experts"}  # fmt: skip


def model_of(family: str, **changes: Any) -> Any:
    torch.manual_seed(0)
    extra = {EXPERTS[family]: 4} if family in EXPERTS else {}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **SIZES | extra | changes)).eval()
    model.name_or_path = "a-model"
    return model


@pytest.mark.parametrize("family", EXPERTS)
def test_all_linear_adapts_experts_too(family: str):
    model = model_of(family)
    assert len(list(stacked(model))) == 4
    adapted = new_adapter(model, LoraSection(r=4), ())
    share, names = left_out(adapted)
    assert share < 0.05, names  # a router at most
    assert notes_of(adapted, LoraSection()) == [] or "router" in notes_of(adapted, LoraSection())[0]


def test_adapted_experts_learn_come_back_switch_off_and_merge(tmp_path: Path):
    model, ids = model_of("gpt_oss"), random_ids()
    model.save_pretrained(base := tmp_path / "base")
    model.name_or_path = str(base)
    before = model(ids).logits
    adapted = new_adapter(model, LoraSection(r=4), ())
    torch.testing.assert_close(adapted(ids).logits, before)
    adapted(ids, labels=ids).loss.backward()
    grads = {n: p.grad for n, p in adapted.named_parameters() if "experts" in n and "lora_B" in n}
    assert len(grads) == 4
    assert all(grad is not None and grad.abs().max() > 0 for grad in grads.values())
    shake(adapted, "lora_")
    trained = adapted(ids).logits
    assert (trained - before).abs().max() > 0.1
    with adapter_off(adapted):
        torch.testing.assert_close(adapted(ids).logits, before)
    adapted.save_pretrained(tmp_path / "adapter")
    again = continue_adapter(model_of("gpt_oss"), str(tmp_path / "adapter"))
    torch.testing.assert_close(again(ids).logits, trained)
    torch.testing.assert_close(adapted.merge_and_unload()(ids).logits, trained, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("names", [["q_proj", "experts"], ["q_proj", "gate_up_proj", "down_proj"]])
def test_experts_may_be_listed(names: list[str]):
    adapted = new_adapter(model_of("gpt_oss"), LoraSection(r=4, target_modules=names), ())
    trained = {n.split(".layers.0.")[1] for n, p in adapted.named_parameters() if p.requires_grad and ".layers.0." in n}
    assert {n for n in trained if "experts" not in n} == {f"self_attn.q_proj.lora_{k}.default.weight" for k in "AB"}
    assert len([n for n in trained if "experts" in n]) == 4


def test_where_peft_cannot_the_share_of_weights_that_is_left_out_is_told():
    lora = LoraSection(r=4, lora_dropout=0.1)
    adapted = new_adapter(model_of("gpt_oss"), lora, ())
    (told,) = notes_of(adapted, lora)
    assert told.startswith("model.lora: 80 % of the weights have no adapter: ")
    assert "experts.gate_up_proj" in told
    assert "without lora_dropout and use_dora only" in told
    with pytest.raises(UserError, match=r"experts.down_proj, experts.gate_up_proj are stacked experts"):
        new_adapter(model_of("gpt_oss"), LoraSection(lora_dropout=0.1, target_modules=["experts"]), ())


@pytest.mark.parametrize(
    ("family", "lora", "told"),
    [
        ("llama", {"target_modules": ["q_proj", "v_prj"]}, "target_modules: v_prj matches nothing in LlamaForCausalLM"),
        ("llama", {"target_modules": "q_proj"}, "'q_proj' matches nothing"),
        ("llama", {"target_modules": ["model"]}, "model.lora: Target module"),
        ("mixtral", {"lora_dropout": 0.1}, "model.lora: .*does not work with lora_dropout"),
    ],
)
def test_what_peft_does_not_take_is_told_with_its_key(family: str, lora: dict[str, Any], told: str):
    with pytest.raises(UserError, match=told):
        new_adapter(model_of(family), LoraSection(**lora), ())


@pytest.mark.parametrize("name", ["lm_head", "embed_tokens"])
def test_a_head_that_is_the_table_takes_no_adapter(name: str):
    lora = LoraSection(target_modules=["q_proj", name])
    with pytest.raises(UserError, match="the head is the embedding table"):
        new_adapter(model_of("llama", tie_word_embeddings=True), lora, ())
    new_adapter(model_of("llama", tie_word_embeddings=False), lora, ())


def test_adapted_experts_are_not_sharded():
    adapted = new_adapter(model_of("gpt_oss"), LoraSection(r=4), ())
    refuse_sharded_experts(adapted, "ddp")
    with pytest.raises(UserError, match="do not work under zero3"):
        refuse_sharded_experts(adapted, "zero3")
