"""Tiny models of many architectures, made from configs, with weights large enough that a mistake shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import PreTrainedTokenizerFast

STORIES = "asset:stories260k"
WINDOW = 6
SIZE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
}
PLAIN = {**SIZE, "intermediate_size": 48, "num_key_value_heads": 2}
HEADS = {**PLAIN, "head_dim": 8}
MIXED = {"sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"]}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": HEADS,
    "qwen2": {**PLAIN, "use_sliding_window": True, **MIXED},
    "qwen3": HEADS,
    "gemma": HEADS,
    "gemma2": {**HEADS, **MIXED, "query_pre_attn_scalar": 8, "final_logit_softcapping": 2.0},
    "gemma3_text": {**HEADS, **MIXED, "query_pre_attn_scalar": 8},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "initializer_range": 0.3},
    "gpt_neox": {**SIZE, "intermediate_size": 48},
    "mistral": {**HEADS, "sliding_window": WINDOW},
    "mixtral": {**HEADS, "sliding_window": WINDOW, "num_local_experts": 4},
    "granite": {**PLAIN, "logits_scaling": 3.0},
    "cohere": {**PLAIN, "logit_scale": 0.25},
    "opt": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "ffn_dim": 48,
        "word_embed_proj_dim": 32,
        "init_std": 0.3,
    },
    "falcon": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "initializer_range": 0.3},
}
WITHOUT_CLASSIFIER = ("granite", "cohere")  # transformers has none


def config_of(model_type: str, **changes: Any) -> dict[str, Any]:
    return {"model_type": model_type, **CONFIGS[model_type], **changes}


def random_ids(rows: int = 2, length: int = 20) -> torch.Tensor:
    return torch.randint(3, 500, (rows, length), generator=torch.Generator().manual_seed(1))


def shake(model: nn.Module, words: str = "lora_") -> None:
    """Moves every parameter whose name has `words` in it, as training would."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if words in name and parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)


def word_tokenizer(folder: Path, **special: str) -> PreTrainedTokenizerFast:
    """A tokenizer of forty words whose special tokens are exactly those given; saved in `folder`."""
    words = [*dict.fromkeys(special.values()), *(f"w{i}" for i in range(40))]
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=special.get("unk_token")))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **special)
    tokenizer.save_pretrained(folder)
    return tokenizer
