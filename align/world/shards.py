"""A model is divided over the ranks layer by layer, and read from its files as it is divided.

The main process reads a layer, the others receive it, and each keeps its piece before the next layer comes: no rank
ever holds more than its share and one layer. Under ZeRO-3 the pieces are DeepSpeed's, under FSDP2 those of torch's own
`fully_shard`, on GPUs and, over gloo, on CPUs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, OffloadPolicy, fully_shard

from align.world.distributed import World
from align.world.engine import deepspeed_config

ALIGNED = 64  # bytes


def prepared(module: Any, optimizer: Any, world: World) -> tuple[Any, Any]:
    """A divided module that is trained, and its optimiser, as they are stepped."""
    if world.sharding == "fsdp2":
        return module, optimizer
    return world.accelerator.prepare(module, optimizer)


def divided(module: Any, world: World) -> Any:
    """The module on this rank's device: its share of the weights where these are divided, otherwise all of it.

    `module` names the classes of its layers (`_no_split_modules`). Before an optimiser is made of its parameters.
    """
    if not world.divides:
        return module.to(world.device)
    units = (*_layers(module), module)
    room = _room(units, world)
    learns = any(p.requires_grad for p in module.parameters())
    unit: Any
    for unit in units:
        _read(unit, room, world)
        if world.sharding == "zero3":
            import deepspeed

            deepspeed.zero.Init(module=unit, config_dict_or_path=deepspeed_config(3, 0.0))
        else:
            fully_shard(unit, offload_policy=_offload(world))
            unit.lets_go = _lets_go() and not (unit is module and learns)  # what is in no layer is wanted again at once
            unit.set_reshard_after_forward(unit.lets_go, recurse=False)
    return _moved(module, world)


def answering(module: Any, world: World) -> Any:
    """A divided module that only answers, without gradients."""
    if world.sharding != "zero3":
        return module
    import deepspeed

    return deepspeed.initialize(model=module, config=deepspeed_config(3, 0.0, trained=False))[0]


@contextmanager
def held(module: nn.Module) -> Iterator[None]:
    """FSDP's layers gather themselves for a pass and let go after it; here they hold on until the end."""
    parts: list[Any] = [part for part in module.modules() if isinstance(part, FSDPModule)]
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            part.set_reshard_after_forward(part.lets_go, recurse=False)
            part.reshard()


def _layers(module: Any) -> Sequence[nn.Module]:
    """Those inside others first."""
    names = set(module._no_split_modules)
    return [part for part in reversed(list(module.modules())) if type(part).__name__ in names and part is not module]


def _room(units: Sequence[nn.Module], world: World) -> Tensor:
    """Enough for the largest unit, the parameters apart that those before it have taken."""
    taken: set[int] = set()
    most = 0
    for unit in units:
        new = [p for p in _hollow(unit) if id(p) not in taken]
        taken |= {id(p) for p in new}
        most = max(most, sum(map(_room_for, new)))
    return torch.empty(most, dtype=torch.uint8, device=world.device)


def _hollow(unit: nn.Module) -> list[Any]:
    return [p for p in unit.parameters() if hasattr(p, "stored")]


def _read(unit: nn.Module, room: Tensor, world: World) -> None:
    """Fills the parameters that are not read yet, on every rank; what the main process cannot read ends all of them.

    They stand in `room`, one layer after the other, until they are divided: pieces that stay, made between tensors that
    go, would leave holes in the memory of a process as large as these.
    """
    empty, end = _hollow(unit), 0
    for parameter in empty:
        start, end = end, end + _room_for(parameter)
        size = parameter.numel() * parameter.element_size()
        parameter.data = room[start : start + size].view(parameter.dtype).view(parameter.shape)
    with world.main_first():
        if world.main:
            for parameter in empty:
                parameter.data.copy_(parameter.stored.read())
    for parameter in empty:
        if world.sharding == "fsdp2":  # DeepSpeed sends what it divides
            dist.broadcast(parameter.data, 0)
        del parameter.stored


def _room_for(parameter: Tensor) -> int:
    """Bytes; of whole lines, so that any precision may begin after them."""
    return -(-parameter.numel() * parameter.element_size() // ALIGNED) * ALIGNED


def _moved(module: nn.Module, world: World) -> Any:
    """The buffers, which are whole everywhere."""
    for part in module.modules():
        for name, buffer in part._buffers.items():
            part._buffers[name] = buffer if buffer is None else buffer.to(world.device)
    return module


def _lets_go() -> bool:
    """Whether a layer's weights are let go after its forward pass (the launch file's `fsdp_reshard_after_forward`)."""
    return os.environ.get("FSDP_RESHARD_AFTER_FORWARD", "true").lower() not in ("false", "0", "no_shard")


def _offload(world: World) -> OffloadPolicy:
    asked = os.environ.get("FSDP_OFFLOAD_PARAMS", "false").lower() in ("true", "1")
    return CPUOffloadPolicy() if asked and world.device.type != "cpu" else OffloadPolicy()
