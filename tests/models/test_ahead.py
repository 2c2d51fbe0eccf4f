"""Jumps of adapters: what is beside the factors is the difference of whole weights, and all of it is saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from bench_of_steps import alone
from peft import PeftModel
from tiny_models import STORIES, random_ids, shake
from transformers import AutoModelForCausalLM

from align.errors import UserError
from align.models.ahead import ADAPTER, Ahead, adapted, jumps_of, prepare, refuse
from align.models.frozen import adapter_off
from align.models.load import load_policy
from align.models.save import export, save_final
from align.models.settings import LoraSection, ModelSection
from align.models.tokenizer import load_tokenizer
from align.rollout.vllm.weights import save_served
from align.training.moves import jump

LORA = LoraSection(r=4, lora_alpha=8)


def by_hand(weights: list[torch.Tensor], products: list[torch.Tensor], rates: list[float]) -> torch.Tensor:
    """Whole weights: each solution is what was there and what the factors have learned since; then the jump."""
    base, before = weights[0], weights[0] + products[0]
    ahead = torch.zeros_like(base)
    for product, rate in zip(products[1:], rates, strict=True):
        hat = base + ahead + product
        ahead = hat + rate * (hat - before) - (base + product)
        before = hat
    return ahead


@pytest.mark.parametrize("new", [True, False], ids=["a new adapter", "one that has learned before"])
@pytest.mark.parametrize("rank", [1, 3])
def test_jumps_are_those_of_whole_matrices(new: bool, rank: int):
    """Seven columns are full after seven jumps of rank one, and after two of rank three."""
    torch.manual_seed(1)
    weight, rates = torch.randn(9, 7), [0.3, 0.3, 0.6, 0.0, 0.3, 0.1, 0.5, 0.3, 0.3]
    factors = [(torch.randn(rank, 7), torch.randn(9, rank)) for _ in range(len(rates) + 1)]
    factors[0] = (factors[0][0], torch.zeros(9, rank)) if new else factors[0]
    ahead = Ahead.at(*factors[0])
    assert torch.equal(ahead.up @ ahead.down, torch.zeros(9, 7))
    for i, (factor, rate) in enumerate(zip(factors[1:], rates, strict=True), start=1):
        ahead = ahead.jumped(*factor, rate)
        wanted = by_hand([weight.double()], [(b @ a).double() for a, b in factors[: i + 1]], rates[:i])
        torch.testing.assert_close((ahead.up @ ahead.down).double(), wanted, rtol=1e-5, atol=2e-5)
        assert len(ahead.down) <= 7 or i == 1


@pytest.mark.parametrize("up", [torch.zeros(3, 2), torch.ones(3, 2)])
def test_a_jump_from_where_the_last_one_began_adds_nothing(up: torch.Tensor):
    down = torch.randn(2, 5)
    ahead = Ahead.at(down, up).jumped(down, up, 0.7)
    assert not ahead.up.any()
    assert len(ahead.down) == (2 if up.any() else 0)


def jumped(model: Any, times: int, alpha: float = 0.3) -> list[dict[str, torch.Tensor]]:
    """Learns at random and jumps, several times, then learns once more; the products of every solution, by name."""
    layers, products = adapted(model), list[dict[str, torch.Tensor]]()

    def note() -> None:
        found = {n: y.scaling[ADAPTER] * y.lora_B[ADAPTER].weight @ y.lora_A[ADAPTER].weight for n, y in layers.items()}
        products.append({name: product.detach().clone() for name, product in found.items()})

    prepare(model)
    jump(model, alone())
    note()
    for _ in range(times):
        shake(model, "lora_")
        jump(model, alone(), alpha)
        note()
    shake(model, "lora_")
    note()
    return products


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("lora", [LORA, LoraSection(r=3, lora_alpha=7, use_rslora=True)], ids=["lora", "rslora"])
def test_logits_are_those_of_whole_weights_here_in_peft_merged_and_served(
    load_tiny, tmp_path: Path, kind: str, lora: Any
):
    ids, times = random_ids(), 3
    model, tokenizer, *_ = load_tiny(kind, lora=lora)
    base, *_ = load_tiny(kind)
    products = jumped(model, times)
    with torch.no_grad():
        for name in products[0]:
            weight: Any = base.get_submodule(name.removeprefix("base_model.model.")).weight
            turned = kind == "gpt2"
            w = weight.T if turned else weight
            found = by_hand([w], [p[name] for p in products[:-1]], [0.3] * times) + w + products[-1][name]
            weight.copy_(found.T if turned else found)
        wanted, said = base(ids).logits, model(ids).logits
    torch.testing.assert_close(said, wanted, rtol=1e-4, atol=5e-4)
    save_final(model, tokenizer, tmp_path / "final")
    plain = AutoModelForCausalLM.from_pretrained(model.peft_config["default"].base_model_name_or_path)
    theirs = PeftModel.from_pretrained(plain, tmp_path / "final")
    assert theirs.peft_config["default"].r == (times + 1) * lora.r
    torch.testing.assert_close(theirs(ids).logits, said, rtol=1e-4, atol=5e-4)
    ours = load_policy(ModelSection(model_name_or_path=str(tmp_path / "final")), tokenizer, "lm", tmp_path)
    torch.testing.assert_close(ours(ids).logits, said, rtol=1e-4, atol=5e-4)
    export(tmp_path / "final", tmp_path / "merged")
    save_served(model, tokenizer, tmp_path / "served", None)
    for folder in ("merged", "served"):
        found = AutoModelForCausalLM.from_pretrained(tmp_path / folder)(ids).logits
        torch.testing.assert_close(found, said, rtol=1e-4, atol=5e-4)


def test_switched_off_it_is_the_model_beneath(load_tiny):
    ids = random_ids()
    model, *_ = load_tiny("llama", lora=LORA)
    base, *_ = load_tiny("llama")
    jumped(model, 2)
    with adapter_off(model):
        assert torch.equal(model(ids).logits, base(ids).logits)


def test_without_a_jump_a_folder_is_what_peft_writes(load_tiny, tmp_path: Path):
    model, tokenizer, *_ = load_tiny("llama", lora=LORA)
    shake(model, "lora_")
    save_final(model, tokenizer, tmp_path / "one")
    prepare(model)
    jump(model, alone())
    save_final(model, tokenizer, tmp_path / "other")
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


def test_layers_of_other_ranks_keep_theirs(load_tiny, tmp_path: Path):
    """One that has learned nothing has no part in the jump, and its rank is its own."""
    ids = random_ids()
    model, tokenizer, *_ = load_tiny("llama", lora=LORA)
    prepare(model)
    jump(model, alone())
    shake(model, "q_proj.lora_")
    shake(model, "layers.0.mlp.down_proj.lora_")
    jump(model, alone(), 0.5)
    assert {len(a.down) for a in jumps_of(model).values()} == {0, 4}
    save_final(model, tokenizer, tmp_path / "final")
    again = load_policy(ModelSection(model_name_or_path=str(tmp_path / "final")), tokenizer, "lm", tmp_path)
    torch.testing.assert_close(again(ids).logits, model(ids).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("lora", "said"),
    [
        (LoraSection(r=2, use_dora=True), "use_dora: a jump of what DoRA scales has no low rank"),
        (LoraSection(r=2, target_modules=["embed_tokens", "q_proj"]), r"embed_tokens is no plain matrix \(of 1 like"),
    ],
)
def test_other_products_are_refused(load_tiny, lora: LoraSection, said: str):
    model, *_ = load_tiny("llama", lora=lora, changes={"tie_word_embeddings": False})
    with pytest.raises(UserError, match=said):
        refuse(model)


def test_the_stories_model_may_jump():
    section = ModelSection(model_name_or_path=STORIES, lora=LORA)
    refuse(load_policy(section, load_tokenizer(section), "lm", Path()))
