"""Weights of 4 bits beneath an adapter (QLoRA: Dettmers, Pagnoni, Holtzman, Zettlemoyer, 2023, arXiv:2305.14314), by
bitsandbytes.

The policy is trained on a base whose linear layers, but for the head, are kept so; each is multiplied as what those
bits stand for. The adapter was trained on that model, so its folder says how the base was kept, and whoever reads it
afterwards (`align chat`, an evaluation, an export, a next run) has the same base, with its weights in full width.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from align.errors import UserError
from align.models.settings import ModelSection
from align.models.sources import quiet, read_json
from align.system.extras import bitsandbytes

KEYS = ("bnb_4bit_quant_type", "bnb_4bit_use_double_quant")
NOTE = "load_in_4bit"  # key of align_base.json
OF_MODEL = "_align_in_4bit"  # where a model says how its base is kept
Kept = dict[str, Any]  # KEYS, as the recipe has them


def asked(section: ModelSection, adapter: str) -> Kept | None:
    """How the base's weights are kept: as the recipe says, or as the adapter in a folder was trained. None: as they
    are."""
    if section.load_in_4bit:
        return {key: getattr(section, key) for key in KEYS}
    note = Path(adapter, "align_base.json")
    return read_json(note).get(NOTE) if adapter and note.exists() else None


def config_of(kept: Kept | None) -> Any:
    """transformers' form of it. UserError where bitsandbytes is not here."""
    if kept is None:
        return None
    bitsandbytes("model.load_in_4bit")
    from transformers import BitsAndBytesConfig

    # what is multiplied has the precision of what comes in; autocast lowers both
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.float32, **kept)


def settled(model: Any, kept: Kept | None, *, train: bool) -> Any:
    """The model with what its folder is to say, its weights in full width again unless they are to be trained on."""
    if kept is None:
        return model
    if train and not list(_layers(model)):
        raise UserError(f"model.load_in_4bit: {type(model).__name__} has no linear layer that can be kept in 4 bits")
    for _, layer in _layers(model):
        layer.support_avx512bf16_for_cpu = False  # or an evaluation packs them for a kernel that training does not have
    with quiet():
        made = model if train else model.dequantize()
    setattr(made, OF_MODEL, kept)
    return made


def refuse_not_finite(model: nn.Module, folder: str) -> None:
    """UserError where a block of weights of 4 bits has no scale: it held NaN or infinity."""
    for name, layer in _layers(model):
        state = layer.weight.quant_state
        scale = state.state2.absmax if state.nested else state.absmax
        if not bool(torch.isfinite(scale).all()):
            raise UserError(f"{folder}: {name}.weight holds NaN or infinity; take another model")


def told(model: nn.Module) -> list[str]:
    """What is said of a policy that is trained so."""
    if not (layers := list(_layers(model))):
        return []
    few = sum(layer.in_features * layer.out_features for _, layer in layers)
    others = sum(p.numel() for p in model.parameters() if p.is_floating_point() and not p.requires_grad)
    return [f"model.load_in_4bit: {few:,} of {few + others:,} weights beneath the adapter are kept in 4 bits"]


def _layers(model: nn.Module) -> Iterator[tuple[str, Any]]:
    return ((name, m) for name, m in model.named_modules() if type(getattr(m, "weight", None)).__name__ == "Params4bit")
