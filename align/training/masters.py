"""Float32 masters of weights that have fewer bits: the optimiser steps the masters, and the weights are what they round
to. A step that is too small for the weights is kept in the masters, and adds up there.

DeepSpeed has masters of its own. Under fsdp2 a master is divided as its weight is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from align.errors import UserError
from align.training.slopes import Slope, local


@dataclass(frozen=True)
class Masters:
    """By the name of the weight, the weight and its master."""

    of: Mapping[str, tuple[Any, nn.Parameter]]

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
