"""The pieces that are put together by hand, against the models' own forward pass."""

from __future__ import annotations

import pytest
import torch
from tiny_models import CONFIGS, WITHOUT_CLASSIFIER, random_ids, shake
from torch import Tensor

from align.models.parts import (
    Windows,
    backbone,
    head_gap,
    head_transform,
    lm_head,
    num_block_params,
    scalar_head,
    unwrapped,
    window_layers,
)
from align.models.settings import LoraSection


@pytest.fixture(autouse=True)
def _no_gradient():
    with torch.no_grad():
        yield


@pytest.mark.parametrize("model_type", CONFIGS)
def test_own_head_on_the_backbone_gives_the_models_logits(load_tiny, model_type):
    model, *_ = load_tiny(model_type, lora=LoraSection(r=4))
    shake(model)
    size = float(model(input_ids=random_ids()).logits.abs().max())
    assert size > 0.1
    assert head_gap(model, random_ids()) <= 1e-6 * size


@pytest.mark.parametrize("model_type", ["gemma2", "granite", "cohere"])
def test_these_architectures_change_their_logits(load_tiny, model_type):
    model, *_ = load_tiny(model_type)
    ids = random_ids()
    bare = lm_head(model)(backbone(model)(input_ids=ids, use_cache=False).last_hidden_state)
    theirs = model(input_ids=ids).logits
    assert (bare - theirs).abs().max() > 0.1
    torch.testing.assert_close(head_transform(model.config)(bare), theirs, atol=1e-6, rtol=1e-6)


def test_a_head_that_does_something_unknown_is_noticed(load_tiny):
    model, *_ = load_tiny("cohere")
    model.logit_scale = 1.5  # what the config says no longer holds
    assert head_gap(model, random_ids()) > 0.1


@pytest.mark.parametrize("model_type", [name for name in CONFIGS if name not in WITHOUT_CLASSIFIER])
def test_scalar_head_at_the_last_token_is_the_classifiers_score(load_tiny, model_type):
    model, *_ = load_tiny(model_type, "scalar")
    ids = random_ids()
    hidden = backbone(model)(input_ids=ids, use_cache=False).last_hidden_state
    torch.testing.assert_close(scalar_head(model)(hidden[:, -1]), model(input_ids=ids).logits, atol=1e-6, rtol=1e-6)


def _causal(length: int, window: int | None) -> Tensor:
    back = torch.arange(length)[:, None] - torch.arange(length)[None, :]
    seen = (back >= 0) & (back < (window or length))
    return torch.zeros(1, 1, length, length).masked_fill(~seen, torch.finfo(torch.float32).min)


@pytest.mark.parametrize("model_type", CONFIGS)
def test_masks_made_from_the_windows_are_those_of_the_model(load_tiny, model_type):
    model, *_ = load_tiny(model_type)
    ids = random_ids(1)
    windows = window_layers(model.config)
    full, sliding = _causal(ids.shape[1], None), _causal(ids.shape[1], windows.window)
    mask = {"full_attention": full, "sliding_attention": sliding} if windows.mapping else sliding
    positions = torch.arange(ids.shape[1])[None]
    ours = backbone(model)(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False)
    theirs = backbone(model)(input_ids=ids, use_cache=False)
    torch.testing.assert_close(ours.last_hidden_state, theirs.last_hidden_state, atol=2e-5, rtol=1e-5)
    assert windows.known


@pytest.mark.parametrize("model_type", ["qwen2", "gemma2", "gemma3_text", "mistral", "mixtral"])
def test_windowed_models_are_told_from_the_others(load_tiny, model_type):
    model, *_ = load_tiny(model_type)
    ids = random_ids(1)
    full = backbone(model)(input_ids=ids, attention_mask=_causal(20, None), use_cache=False)
    own = backbone(model)(input_ids=ids, use_cache=False)
    assert (full.last_hidden_state - own.last_hidden_state).abs().max() > 1e-2
    assert window_layers(model.config).window == 6


def test_a_window_that_no_layer_uses_is_none(load_tiny):
    model, *_ = load_tiny("qwen3", changes={"sliding_window": 4})
    assert window_layers(model.config) == Windows(mapping=False, window=None)


def test_block_parameters_by_hand(load_tiny):
    model, *_ = load_tiny("llama", lora=LoraSection(r=4))
    adapter = sum(p.numel() for name, p in model.named_parameters() if "lora_" in name)
    attention = 32 * 32 + 2 * 32 * 16 + 32 * 32  # query, key and value of two heads, output
    layer = attention + 3 * 32 * 48 + 2 * 32  # gate, up, down; two norms
    assert num_block_params(model) == 2 * layer + 32 + adapter


def test_of_four_experts_the_two_that_work_count(load_tiny):
    model, *_ = load_tiny("mixtral")
    experts = 4 * 3 * 32 * 48  # of a layer
    whole = sum(p.numel() for p in unwrapped(model).model.layers.parameters()) + 32
    assert num_block_params(model) == whole - 2 * experts // 2
