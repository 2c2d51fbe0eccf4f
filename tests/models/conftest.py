"""Tiny models of many architectures, made from configs; the shipped tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from align.models.fresh import make_fresh
from align.models.settings import ModelSection
from align.models.tokenizer import load_tokenizer

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 64}
GQA = {**SMALL, "intermediate_size": 48, "num_key_value_heads": 2, "head_dim": 8}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": GQA,
    "qwen2": {k: v for k, v in GQA.items() if k != "head_dim"},
    "qwen3": GQA,
    "gemma": GQA,
    "gemma2": {**GQA, "sliding_window": 6, "query_pre_attn_scalar": 8, "final_logit_softcapping": 0.5},
    "gemma3_text": {
        **GQA,
        "sliding_window": 6,
        "query_pre_attn_scalar": 8,
        "layer_types": ["sliding_attention", "full_attention"],
    },
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
    "gpt_neox": {**SMALL, "intermediate_size": 48},
    "mistral": {**GQA, "sliding_window": 6},
    "mixtral": {**GQA, "num_local_experts": 4, "sliding_window": 6},
    "granite": {**{k: v for k, v in GQA.items() if k != "head_dim"}, "logits_scaling": 3.0},
    "cohere": {**{k: v for k, v in GQA.items() if k != "head_dim"}, "logit_scale": 0.25},
    "opt": {**SMALL, "ffn_dim": 48, "word_embed_proj_dim": 32},
    "falcon": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "alibi": False},
}
STORIES = "asset:stories260k"

Maker = Callable[..., tuple[ModelSection, PreTrainedTokenizerFast, Path]]


@pytest.fixture
def fresh(tmp_path: Path) -> Maker:
    """`fresh(model_type, **section keys)`: the section, its tokenizer and the folder of weights made from it."""

    def make(model_type: str, head: Any = "lm", **keys: Any) -> tuple[ModelSection, PreTrainedTokenizerFast, Path]:
        config = {"model_type": model_type, **CONFIGS[model_type]}
        section = ModelSection(config=config, tokenizer_name_or_path=STORIES, **keys)
        tokenizer = load_tokenizer(section, head)
        folder = tmp_path / f"init-{model_type}"
        make_fresh(section, load_tokenizer(ModelSection(model_name_or_path=STORIES)), 3, folder)
        return section, tokenizer, folder

    return make
