"""Gradients between the backward pass and clipping, however they are sharded: what pulls weights towards an anchor, and
float32 masters, which take the gradients of weights of fewer bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from align.errors import UserError
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


# ---- masters ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Masters:
    """Float32 masters of weights that have fewer bits, by name: the optimiser steps the masters, and the weights are
    what they round to. A step that is too small for the weights is kept in the masters, and adds up there.

    DeepSpeed has masters of its own. Under fsdp2 a master is divided as its weight is.
    """

    of: Mapping[str, tuple[Any, nn.Parameter]]  # the weight and its master

    def take_gradients(self) -> None:
        """From the weights, which have none any more. After the last backward pass of a step, before it is clipped."""
        for weight, master in self.of.values():
            if weight.grad is not None:
                master.grad = weight.grad.to(torch.float32)
                weight.grad = None

    def give_weights(self) -> None:
        """Each weight becomes what its master rounds to."""
        with torch.no_grad():
            for weight, master in self.of.values():
                local(weight).copy_(local(master))

    def begin_anew(self) -> None:
        """Each master becomes its weight, which something else has written."""
        with torch.no_grad():
            for weight, master in self.of.values():
                local(master).copy_(local(weight))

    def slopes(self) -> Iterator[Slope]:
        """Those of weights with masters, as `slopes` has them of all others."""
        for name, (_, master) in self.of.items():
            if master.grad is not None:
                yield Slope(name, local(master.grad), local(master.detach()), lambda tensor: tensor)


def masters_of(module: nn.Module) -> Masters:
    """Of all weights that learn and are not float32. UserError where there are none."""
    of = {
        name: (p, nn.Parameter(p.detach().to(torch.float32)))
        for name, p in module.named_parameters()
        if p.requires_grad and p.dtype != torch.float32
    }
    if not of:
        raise UserError(
            "optim.masters: has no effect: the weights that learn are float32, and their own masters; remove the key, "
            "or set model.dtype: bfloat16"
        )
    return Masters(of)


def stepped(module: nn.Module, masters: Masters | None) -> nn.Module:
    """What an optimiser is made of: the module's own parameters, or the masters in the place of those that have one."""
    if masters is None:
        return module
    own = {name: p for name, p in module.named_parameters() if p.requires_grad}
    return nn.ParameterList([masters.of[name][1] if name in masters.of else p for name, p in own.items()])
