"""Models that are never trained: a copy, or the trained one with its adapter switched off."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from peft import PeftModel
from torch import nn
from transformers import PreTrainedTokenizerFast

from align.models.embeddings import check_same_vocabulary
from align.models.load import load_policy
from align.models.settings import ModelSection
from align.models.tokenizer import Head, read_tokenizer, source_of


def frozen_copy(section: ModelSection, tokenizer: PreTrainedTokenizerFast, head: Head, init_dir: Path) -> Any:
    """The weights that training starts from, or those of `ref_model_name_or_path`; eval mode, no gradient.

    A new adapter adds nothing yet and is left out; one that came with the folder is part of the model. Raises
    UserError, also where another reference has another vocabulary.
    """
    other = section.ref_model_name_or_path
    wanted = dataclasses.replace(section, lora=None)
    if other:
        wanted = dataclasses.replace(
            wanted, model_name_or_path=other, ref_model_name_or_path="", config={}, tokenizer_name_or_path=""
        )
        theirs = read_tokenizer(source_of(wanted), section.trust_remote_code)
        wanted = dataclasses.replace(wanted, add_tokens=[])
        check_same_vocabulary(tokenizer, theirs, f"model.ref_model_name_or_path: {other}")
    return freeze(load_policy(wanted, tokenizer, head, init_dir))


def freeze(model: nn.Module) -> Any:
    """The same module in eval mode, without gradients."""
    return model.eval().requires_grad_(False)


@contextmanager
def adapter_off(model: nn.Module) -> Iterator[None]:
    """Within the block the model, wrapped for training or not, computes without its adapter.

    Which parameters are trained, and train mode, are afterwards as before.
    """
    wrapped = next((m for m in model.modules() if isinstance(m, PeftModel)), None)
    assert wrapped is not None, "there is no adapter to switch off"
    trained = {name: p.requires_grad for name, p in wrapped.named_parameters()}
    try:
        with wrapped.disable_adapter():
            yield
    finally:
        for name, p in wrapped.named_parameters():
            p.requires_grad_(trained[name])
