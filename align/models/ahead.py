"""Jumps of an adapter: weights that lie ahead of a solution, on the line from the one before it.

    theta = hat + alpha (hat - hat_before)          of a matrix: hat = W + O + s B A

The product B A is not linear in its factors, so these stay what they are and learn on from there, as they do without
any jump. What a jump adds is a matrix O beside them, O <- O + alpha (hat - hat_before), which is never trained. All
that is in it are the products of the solutions so far: a few columns with shared rows, exact, without a singular value
decomposition, and whole rows where those would be no smaller. W itself is not touched: with the adapter switched off
the model is what it was.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from peft.tuners.lora.layer import Linear, LoraLayer
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from align.errors import UserError
from align.system.files import write_json

ADAPTER = "default"  # peft's name of the one that we train
CURE = "train all weights (without model.lora), or set the method's rate of it to 0"


@dataclass(frozen=True)
class Ahead:
    """Of one matrix, float32: up @ down is O, and solution @ down the product (with O) at the last jump."""

    down: Tensor  # (R, in)
    up: Tensor  # (out, R)
    solution: Tensor  # (out, R)

    @classmethod
    def at(cls, down: Tensor, up: Tensor) -> Ahead:
        """Before any jump, where the adapter's product is up @ down; a new one's is 0, and has no part in any jump."""
        rank = len(down) if up.any() else 0
        return cls(down[:rank], torch.zeros_like(up[:, :rank]), up[:, :rank])

    def jumped(self, down: Tensor, up: Tensor, alpha: float) -> Ahead:
        """After a jump from where the adapter's product is up @ down."""
        last = len(self.down) - len(down)
        grown = self
        if not up.any():
            new = torch.zeros_like(self.up)
        elif last >= 0 and torch.equal(self.down[last:], down):  # the rows of the solution before, which has not moved
            new = F.pad(up, (last, 0))
        elif len(self.down) + len(down) > down.shape[1]:
            square = torch.eye(down.shape[1], device=down.device)
            grown, new = Ahead(square, self.up @ self.down, self.solution @ self.down), up @ down
        else:
            wider = (0, len(down))
            grown = Ahead(torch.cat([self.down, down]), F.pad(self.up, wider), F.pad(self.solution, wider))
            new = F.pad(up, (len(self.down), 0))
        hat = grown.up + new
        return Ahead(grown.down, torch.add(grown.up, hat - grown.solution, alpha=alpha), hat)


def prepare(model: nn.Module) -> None:
    """Makes an adapted model, which `refuse` has not refused, ready to jump."""
    for layer in adapted(model).values():
        rows, outer = layer.in_features, layer.out_features
        layer.ahead = Ahead(torch.zeros(0, rows), torch.zeros(outer, 0), torch.zeros(outer, 0))
        layer.register_forward_hook(_add)


def refuse(model: nn.Module) -> None:
    """UserError where an adapter's product is none of two factors of a plain matrix."""
    config: Any = getattr(model, "peft_config", {}).get(ADAPTER)
    kind = str(getattr(getattr(config, "peft_type", None), "value", None))
    if kind != "LORA":
        raise UserError(f"the adapter is {kind}, and only LoRA's jump ahead between rounds; {CURE}")
    if getattr(config, "use_dora", False):
        raise UserError(f"model.lora.use_dora: a jump of what DoRA scales has no low rank; {CURE}")
    odd = [name for name, layer in _layers(model) if type(layer) is not Linear or _biased(layer)]
    if odd:
        raise UserError(
            f"model.lora.target_modules: {odd[0]} is no plain matrix (of {len(odd)} like it), and the jump of its "
            f"adapter is not made here; name others, or {CURE}"
        )


def _biased(layer: Any) -> bool:
    return layer.lora_B[ADAPTER].bias is not None


def _layers(model: nn.Module) -> Iterator[tuple[str, Any]]:
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer) and ADAPTER in {*module.lora_A, *module.lora_embedding_A, *module.scaling}:
            yield name, module


def adapted(model: nn.Module) -> dict[str, Any]:
    """The layers that have factors, by their names in the model."""
    return dict(_layers(model))


def jumps_of(model: nn.Module) -> dict[str, Ahead]:
    """Of the layers of a model that may jump; empty of any other."""
    found = {name: getattr(layer, "ahead", None) for name, layer in _layers(model)}
    return {name: ahead for name, ahead in found.items() if ahead is not None}


def put_ahead(model: nn.Module, found: Mapping[str, Mapping[str, Tensor]]) -> None:
    """The jumps that a checkpoint holds, by `jumps_of`'s names."""
    for name, layer in _layers(model):
        if name in found:
            layer.ahead = Ahead(**found[name])


def _add(layer: Any, given: tuple[Tensor, ...], out: Tensor) -> Tensor:
    ahead: Ahead = layer.ahead
    if layer.disable_adapters or not len(ahead.down):
        return out
    return (out + F.linear(F.linear(given[0].to(ahead.down.dtype), ahead.down), ahead.up)).to(out.dtype)


# ---- what is written ------------------------------------------------------------------------------------------------


def widen(folder: Path, model: nn.Module) -> None:
    """An adapter's folder as peft has written it, made to hold the jumps as well: factors side by side, whose scale
    is 1. Nothing is changed where the model has never jumped."""
    if not any(ahead.up.any() for ahead in jumps_of(model).values()):
        return
    layers, file, about = adapted(model), folder / "adapter_model.safetensors", folder / "adapter_config.json"
    tensors, ranks = load_file(file), dict[str, int]()
    for name, ahead in jumps_of(model).items():
        down, up = (f"{name}.{part}.weight" for part in ("lora_A", "lora_B"))
        beside = (ahead.down.cpu(), ahead.up.cpu())
        tensors[down] = torch.cat([tensors[down].float(), beside[0]])
        tensors[up] = torch.cat([layers[name].scaling[ADAPTER] * tensors[up].float(), beside[1]], dim=1)
        ranks[name.removeprefix("base_model.model.")] = len(tensors[down])
    save_file(tensors, file, metadata={"format": "pt"})
    common = max(ranks.values())
    others = {name: rank for name, rank in ranks.items() if rank != common}
    config: dict[str, Any] = json.loads(about.read_text(encoding="utf-8"))
    config |= {"r": common, "lora_alpha": common, "rank_pattern": others, "alpha_pattern": others, "use_rslora": False}
    write_json(about, config)


def merge(merged: nn.Module, jumps: Mapping[str, Ahead]) -> None:
    """Adds the jumps to the weights of a model whose adapter was merged into it."""
    for name, ahead in jumps.items():
        layer: Any = merged.get_submodule(name.removeprefix("base_model.model."))
        added = ahead.up @ ahead.down
        turned = added.T if isinstance(layer, Conv1D) else added
        with torch.no_grad():
            layer.weight.copy_(layer.weight.float() + turned.to(layer.weight.device))

