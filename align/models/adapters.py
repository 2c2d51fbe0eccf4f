"""LoRA and DoRA by peft, and which reference an adapter allows."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal

from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from align.errors import UserError
from align.models.settings import LoraSection, ModelSection, SoupSection
from align.models.sources import has_adapter, read_json, refusing, resolve
from align.models.targets import linear_names, no_match, refuse_tied_head, targets

Reference = Literal["copy", "adapter_off", "cached"]


def new_adapter(model: PreTrainedModel, lora: LoraSection, token_ids: Sequence[int]) -> PeftModel:
    """A fresh adapter around `model`; the rows of `token_ids` and a scalar head are trained and saved with it."""
    modules, parameters = targets(model, lora)
    config = LoraConfig(
        task_type=_task(model),
        r=lora.r,
        lora_alpha=lora.lora_alpha,
        lora_dropout=lora.lora_dropout,
        target_modules=modules,
        target_parameters=parameters,
        use_dora=lora.use_dora,
        use_rslora=lora.use_rslora,
        trainable_token_indices=_token_tables(model, token_ids) or None,
        base_model_name_or_path=model.name_or_path,
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
    )
    try:
        with warnings.catch_warnings():
            # peft adds patterns for experts that all-linear does not reach, then says so
            warnings.filterwarnings("ignore", message="The following (rank|alpha)_pattern keys")
            warnings.filterwarnings("ignore", message="Model has `tie_word_embeddings=True`")  # refused below
            adapted = get_peft_model(model, config)
    except ValueError as error:  # of peft: its checks of what the recipe's keys ask for
        if "not found" in str(error) or "No modules" in str(error):
            raise UserError(no_match(repr(lora.target_modules), type(model).__name__, linear_names(model))) from None
        raise UserError(f"model.lora: {' '.join(str(error).split())[:300]}") from None
    refuse_tied_head(adapted)
    return adapted


def _token_tables(model: PreTrainedModel, token_ids: Sequence[int]) -> dict[str, list[int]]:
    """The embedding table, and the head where it is not the same tensor, with the rows to be trained in each."""
    if not token_ids:
        return {}
    table, head = model.get_input_embeddings(), model.get_output_embeddings()
    parts = [table] if head is None or head.weight is table.weight else [table, head]
    names = {id(module): name for name, module in model.named_modules()}
    return {names[id(part)]: list(token_ids) for part in parts}


def continue_adapter(model: PreTrainedModel, folder: str) -> PeftModel:
    """The adapter of `folder` around its base, to be trained on."""
    if not Path(folder, "adapter_model.safetensors").exists():
        raise UserError(f"{folder}: has adapter_config.json but no adapter_model.safetensors; pickles are never loaded")
    wanted = _task(model).value
    if (found := read_json(Path(folder, "adapter_config.json")).get("task_type")) not in (wanted, None):
        raise UserError(
            f"{folder}: its adapter is for {found}, this run needs {wanted}; merge it first (`align export`)"
        )
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Found missing adapter keys")
        with refusing(f"{folder}: its adapter does not fit {model.name_or_path}"):
            return PeftModel.from_pretrained(model, folder, is_trainable=True)


def beside(model: PeftModel, own: Collection[str]) -> PeftModel:
    """The model once more on the same base: parameters called so are its own, all others are shared. In train mode and
    with hooks as the model is."""
    shared: dict[int, Any] = {}
    for name, p in model.named_parameters():
        shared[id(p)] = nn.Parameter(p.detach().clone(), p.requires_grad) if name in own else p
    shared |= {id(buffer): buffer for buffer in model.buffers()}
    return deepcopy(model, shared)


def _task(model: PreTrainedModel) -> TaskType:
    return TaskType.SEQ_CLS if hasattr(model, "score") else TaskType.CAUSAL_LM


def refuse_other_lora(lora: LoraSection, folder: str) -> None:
    """UserError if the recipe's adapter is not of the shape that the folder's has: it goes on as it is."""
    there = read_json(Path(folder, "adapter_config.json"))
    for key in ("r", "lora_alpha", "use_dora", "use_rslora"):
        if there.get(key) != getattr(lora, key):
            raise UserError(
                f"model.lora.{key}: {getattr(lora, key)}, but the adapter in {folder} has {there.get(key)} and goes on "
                "as it is; write the same, leave model.lora out, or merge it first with `align export`"
            )


def reference_kind(section: ModelSection) -> Reference:
    """How the reference is kept. The adapter may be switched off only where it is new: then what is left is the
    model that was passed. UserError where the recipe asks for that and it would be another model.
    """
    name = section.model_name_or_path
    old_adapter = bool(name) and not section.config and has_adapter(resolve(name, code=section.trust_remote_code))
    new_one = section.lora is not None and not old_adapter
    possible = new_one and not section.ref_model_name_or_path
    if section.reference == "adapter_off" and not possible:
        reason = (
            "model.ref_model_name_or_path names another model"
            if section.ref_model_name_or_path
            else f"{name} brings an adapter, and without it it is not the model that was passed"
            if old_adapter
            else "there is no adapter (model.lora)"
        )
        raise UserError(f"model.reference: adapter_off, but {reason}; use copy or cached")
    if isinstance(section.reference, SoupSection):
        return "copy"
    if section.reference == "auto":
        return "adapter_off" if possible else "copy"
    return section.reference
