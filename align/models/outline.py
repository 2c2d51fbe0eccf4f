"""A model without its weights: all that `load_policy` would refuse of it, and what an adapter would be put on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from align.models.fresh import fresh_config
from align.models.load import (
    AUTO,
    Where,
    choose_attention,
    fitted,
    load_policy,
    read_model_config,
    refuse_headless,
    where,
)
from align.models.settings import ModelSection
from align.models.sources import refusing
from align.models.tokenizer import Head, load_tokenizer


def config_of(section: ModelSection, tokenizer: PreTrainedTokenizerFast, head: Head) -> Any:
    """transformers' config of the model that `load_policy` makes. UserError where there is no such model."""
    if not section.config:
        return read_model_config(section, where(section, Path()).weights, head)
    config = fresh_config(section, tokenizer)
    refuse_headless(config, head, "model.config.model_type")
    return config


def outline(section: ModelSection, tokenizer: PreTrainedTokenizerFast, head: Head) -> Any:
    """What `load_policy` returns, on the meta device. UserError for whatever that would refuse, weights apart."""
    if not section.config:
        return load_policy(section, tokenizer, head, Path(), "meta")
    config = config_of(section, tokenizer, head)
    config.num_labels = 1 if head == "scalar" else config.num_labels
    kernel = choose_attention(section, config, head)
    with torch.device("meta"), refusing("model.config: transformers makes no model of it"):
        model = AUTO[head].from_config(config, attn_implementation=kernel)
    model.name_or_path = "model.config"  # peft wants a name to write down
    return fitted(model, section, tokenizer, Where(weights="model.config"))


def num_adapted(section: ModelSection, head: Head) -> int:
    """Weights that `section.lora` trains. UserError as `outline`."""
    adapted = outline(section, load_tokenizer(section, head), head)
    return sum(p.numel() for p in adapted.parameters() if p.requires_grad)
