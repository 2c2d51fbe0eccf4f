"""A model without its weights: its layers, and what an adapter would be put on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from align.models.adapters import new_adapter
from align.models.fresh import fresh_config
from align.models.load import read_model_config, where
from align.models.settings import ModelSection
from align.models.tokenizer import Head, added_ids, load_tokenizer

AUTO: dict[str, Any] = {"lm": AutoModelForCausalLM, "scalar": AutoModelForSequenceClassification}


def num_adapted(section: ModelSection, head: Head) -> int:
    """Weights that `section.lora` trains. Raises UserError for whatever `load_policy` would refuse of it."""
    assert section.lora is not None
    tokenizer = load_tokenizer(section, head)
    if section.config:
        config = fresh_config(section, tokenizer)
        config.num_labels = 1 if head == "scalar" else config.num_labels
    else:
        config = read_model_config(section, where(section, Path()).weights, head)
    with torch.device("meta"):
        model = AUTO[head].from_config(config)
    model.name_or_path = section.model_name_or_path or "model.config"  # peft wants a name to write down
    adapted = new_adapter(model, section.lora, added_ids(section, tokenizer))
    return sum(p.numel() for p in adapted.parameters() if p.requires_grad)
