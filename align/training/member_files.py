"""What one learner is, its weights and its moments, into a folder and back; and its whole weights for `final/`.

Kept is what training changes: parameters that learn, those that learned before, and those that moves write. Torch and
DeepSpeed would each leave out whatever does not require a gradient at the moment of saving.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from align.errors import UserError
from align.models.embeddings import gathered
from align.runfolder.state_files import load_state, load_tensors, save_state, save_tensors
from align.training.pieces import as_if_learned, at_rest, load_pieces, save_pieces
from align.training.step import Trainee

TAG = "state"  # DeepSpeed wants a name inside its folder
STILL = "still"


def changing(trainee: Trainee) -> set[str]:
    """The parameters that a checkpoint holds."""
    named = trainee.world.unwrap(trainee.module).named_parameters()
    return {name for name, p in named if p.requires_grad or name in trainee.changing}


def _still(trainee: Trainee) -> set[str]:
    """Those of them that do not learn now, which DeepSpeed leaves out."""
    named = trainee.world.unwrap(trainee.module).named_parameters()
    return {name for name, p in named if not p.requires_grad and name in trainee.changing}


def write(folder: Path, trainee: Trainee) -> None:
    """All ranks take part."""
    world = trainee.world
    if world.deepspeed:
        if still := _still(trainee):
            save_pieces(folder / STILL, trainee.module, world, still)
        trainee.module.save_checkpoint(str(folder / "deepspeed"), tag=TAG, exclude_frozen_parameters=True)
        return
    module, sharded = at_rest(trainee.module, world), world.sharding == "fsdp2"
    options = StateDictOptions(full_state_dict=sharded, cpu_offload=sharded, ignore_frozen_params=True)
    optimizer = _plain(trainee.optimizer)
    with as_if_learned(module, changing(trainee)):
        weights: dict[str, Any] = get_model_state_dict(module, options=options)
    with as_if_learned(module, _optimised(module, optimizer)):
        # torch would first make an empty state with a step of its own, and count that step.
        moments: Any = get_optimizer_state_dict(module, optimizer, options=options) if optimizer.state else {}
    if world.main:
        folder.mkdir(exist_ok=True)
        save_tensors(weights, folder / "weights.safetensors")
        save_state(moments, folder / "optimizer.pt")


def read(folder: Path, trainee: Trainee) -> None:
    """What `write` has kept, into the trainee of every rank. UserError where it is of another model."""
    world = trainee.world
    if world.deepspeed:
        trainee.module.load_checkpoint(str(folder / "deepspeed"), tag=TAG, load_module_strict=False)
        load_pieces(folder / STILL, trainee.module, world, _still(trainee))
        return
    module = at_rest(trainee.module, world)
    options = StateDictOptions(full_state_dict=world.sharding == "fsdp2", strict=False)
    weights: dict[str, Any] = load_tensors(folder / "weights.safetensors")
    _refuse_foreign(folder, module, changing(trainee), weights)
    set_model_state_dict(module, weights, options=options)
    if moments := load_state(folder / "optimizer.pt"):
        with as_if_learned(module, moments["state"].keys()):  # torch invents a state for others that learn
            set_optimizer_state_dict(module, _plain(trainee.optimizer), moments, options=options)


def _refuse_foreign(folder: Path, module: Any, changing: set[str], weights: Mapping[str, Tensor]) -> None:
    """Loading passes over names it does not know, so what training changes must be there, in its shape."""
    trained = {n: tuple(p.shape) for n, p in module.named_parameters() if n in changing}
    wrong = [n for n, shape in trained.items() if n not in weights or tuple(weights[n].shape) != shape]
    if wrong:
        raise UserError(
            f"{folder}: is of another model: {len(wrong)} of {len(trained)} trained tensors are not in it as this "
            f"recipe has them, the first {wrong[0]}; resume it with its own recipe"
        )


def whole_weights(trainee: Trainee) -> dict[str, Tensor] | None:
    """What `final/` is written from where the model's own weights are shards; None where they are whole.

    On the main process's CPU, by the names of the model inside the Scorer; of an adapter only what training changes.
    All ranks take part; the others get {}.
    """
    world = trainee.world
    if not world.divides:
        return None
    scorer = at_rest(trainee.module, world)
    model: Any = scorer.model
    adapter, wanted = hasattr(model, "peft_config"), changing(trainee)
    if world.sharding == "fsdp2":
        options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=adapter)
        with as_if_learned(scorer, wanted):
            whole: dict[str, Any] = get_model_state_dict(model, options=options)
        return whole
    found: dict[str, Tensor] = {}
    copies: dict[int, Tensor] = {}  # tied weights stay one tensor
    for name, tensor in model.state_dict(keep_vars=True).items():
        if adapter and f"model.{name}" not in wanted:
            continue
        with gathered(tensor):
            if world.main:
                found[name] = copies.setdefault(id(tensor), tensor.detach().cpu().clone())
    return found


def _optimised(module: Any, optimizer: torch.optim.Optimizer) -> set[str]:
    """Names of the parameters that the optimiser has."""
    known = {id(p) for group in optimizer.param_groups for p in group["params"]}
    return {name for name, p in module.named_parameters() if id(p) in known}


def _plain(optimizer: Any) -> torch.optim.Optimizer:
    return getattr(optimizer, "optimizer", optimizer)  # out of accelerate's wrapper
