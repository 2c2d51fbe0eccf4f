"""The policy as a folder that vLLM reads: any adapter merged, tied weights written out where it would lose them."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peft import PeftModel
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from align.models.ahead import jumps_of, merge
from align.models.parts import unwrapped
from align.models.save import save_final
from align.system.files import write_json

INDEX = "model.safetensors.index.json"
TWINS = "tied.safetensors"


def save_served(
    model: Any, tokenizer: Any, folder: Path, state: Mapping[str, Tensor] | None, *, untied: bool = False
) -> None:
    """Writes weights, config and tokenizer. `state` holds the gathered weights where the model's own are shards.

    vLLM on a CPU (0.32.0) packs a head that is tied to the embeddings when it starts, and not again when it reads new
    weights; `untied` gives the head a tensor of its own, which is read like any other.
    """
    plain: Any = model
    if isinstance(model, PeftModel):
        plain = copy.deepcopy(model).merge_and_unload()
        merge(plain, jumps_of(model))
    save_final(plain, tokenizer, folder, state)
    twins = dict(getattr(unwrapped(plain), "all_tied_weights_keys", None) or {})
    if untied and twins:
        _untie(folder, twins)


def _untie(folder: Path, twins: Mapping[str, str]) -> None:
    """`twins`: name -> the name that its tensor is saved under."""
    index_file = folder / INDEX
    index = json.loads(index_file.read_text(encoding="utf-8")) if index_file.exists() else {}
    places = index.get("weight_map", {})
    found: dict[str, Tensor] = {}
    for twin, name in twins.items():
        with safe_open(folder / places.get(name, "model.safetensors"), framework="pt") as tensors:
            found[twin] = tensors.get_tensor(name)
    save_file(found, folder / TWINS, metadata={"format": "pt"})
    if index:
        index["weight_map"] |= dict.fromkeys(found, TWINS)
        write_json(index_file, index)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for part in (config, config.get("text_config") or {}):
        part["tie_word_embeddings"] = False
    write_json(folder / "config.json", config)
