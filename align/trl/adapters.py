"""peft's LoraConfig as the section `model.lora`."""

from __future__ import annotations

import dataclasses
from typing import Any

from peft import LoraConfig
from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as USUAL
from transformers import AutoConfig

from align.errors import Findings, UserError
from align.models.settings import LoraSection
from align.models.sources import resolve
from align.recipe.types import names

TOLD = (  # they say nothing of what is trained
    "task_type", "peft_type", "inference_mode", "base_model_name_or_path", "auto_mapping", "revision", "peft_version",
)  # fmt: skip


def lora_of(adapter: Any, model: Any) -> dict[str, Any]:
    """UserError where it asks for more than the section has."""
    if type(adapter) is not LoraConfig:
        raise UserError(f"peft_config: found {type(adapter).__name__}; accepted: peft's LoraConfig")
    default, found = LoraConfig(), Findings()
    known = names(LoraSection)
    for field in dataclasses.fields(adapter):
        value = getattr(adapter, field.name)
        if field.name not in (*known, *TOLD) and value != getattr(default, field.name):
            with found:
                raise UserError(f"peft_config.{field.name}: found {value!r}; model.lora has {', '.join(known)}")
    found.tell()
    section = {name: getattr(adapter, name) for name in known}
    targets = section["target_modules"]
    targets = _usual(model) if targets is None else targets
    return section | {"target_modules": targets if isinstance(targets, str) else sorted(targets)}


def _usual(model: Any) -> list[str]:
    """What peft adapts of an architecture where nothing is said."""
    config = AutoConfig.from_pretrained(resolve(model)) if isinstance(model, str) else model.config
    if config.model_type not in USUAL:
        raise UserError(f"peft_config.target_modules: missing, and peft has none for {config.model_type}; name them")
    return list(USUAL[config.model_type])
