"""Gradients between the backward pass and clipping, however they are sharded: what pulls weights towards an anchor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from align.training.pieces import at_rest, pieces
from align.world.distributed import World


@dataclass(frozen=True)
class Slope:
    """Some entries of a parameter's gradient, those that this rank has of the step's whole mean, and their weights."""

    name: str
    gradient: Tensor  # written in place
    weight: Tensor  # of the same shape
    part: Callable[[Tensor], Tensor]  # the same entries of another tensor in the shape of this rank's piece


Tug = Callable[[Slope], None]  # adds to slope.gradient in place; called once for each parameter that has one


def pull_towards(anchor: Mapping[str, Tensor], coef: float) -> Tug:
    """coef/2 |w - anchor|^2 as a term of the loss that is in no backward pass; the anchor's pieces by name."""

    def tug(slope: Slope) -> None:
        slope.gradient.add_(slope.weight - slope.part(anchor[slope.name]).reshape(slope.weight.shape), alpha=coef)

    return tug


def together(tugs: Sequence[Tug]) -> Tug:
    """All of them, one after the other."""

    def tug(slope: Slope) -> None:
        for one in tugs:
            one(slope)

    return tug


def pulled(tug: Tug, found: Iterable[Slope]) -> None:
    """Calls `tug` for everything that this rank is about to clip and to step by. After the last backward pass."""
    with torch.no_grad():
        for slope in found:
            tug(slope)


def slopes(module: Any, world: World) -> Iterator[Slope]:
    """In the order of the module's parameters; those without a gradient are left out."""
    if world.sharding == "zero3":
        yield from _of_shards(module, world)
    elif world.deepspeed:
        yield from _of_partitions(at_rest(module, world))
    else:
        for name, parameter in at_rest(module, world).named_parameters():
            if (gradient := parameter.grad) is not None:
                yield Slope(name, local(gradient), local(parameter.detach()), lambda tensor: tensor)


def local(tensor: Any) -> Tensor:
    """This rank's piece of what fsdp2 divides; of anything else all of it."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def _of_shards(module: Any, world: World) -> Iterator[Slope]:
    """ZeRO-3: a flat gradient beside each flat piece."""
    optimizer, mine = module.optimizer, pieces(module, world)
    names = {id(p): name for name, p in world.unwrap(module).named_parameters()}
    for group, parameters in enumerate(optimizer.fp16_groups):
        for parameter, gradient in zip(parameters, optimizer.averaged_gradients[group], strict=True):
            if parameter.requires_grad:
                name = names[id(parameter)]
                yield Slope(name, gradient.view(-1), mine[name], lambda tensor: tensor)


def _of_partitions(scorer: Any) -> Iterator[Slope]:
    """ZeRO-1 and 2: weights are whole, and of a gradient a rank has what its partition of the flat group cuts out."""
    for name, parameter in scorer.named_parameters():
        held = getattr(parameter, "_hp_mapping", None)
        if held is None or not parameter.requires_grad:
            continue
        at = held.lp_fragment_address
        gradient = held.get_lp_grad_fragment(parameter._index_in_param_group).view(-1)

        def part(tensor: Tensor, start: int = at.start, count: int = at.numel) -> Tensor:
            return tensor.reshape(-1).narrow(0, start, count)

        yield Slope(name, gradient, part(parameter.data), part)
