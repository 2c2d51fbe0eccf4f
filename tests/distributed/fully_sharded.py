"""FSDP2 on the CPU: torch's `fully_shard` over gloo, in the place of accelerate's, which only shards on GPUs.

All else is what runs on GPUs: step, evaluation, checkpoints, completions, whole weights.
"""

from __future__ import annotations

from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import InitProcessGroupKwargs
from torch.distributed.fsdp import fully_shard

from align.models.parts import backbone
from align.training.distributed import World
from align.training.settings import OptimSection


class Sharding(Accelerator):
    """Shards each decoder layer and the rest, and gives the optimiser the shards; in the order accelerate does."""

    def prepare(self, *args: Any, **kwargs: Any) -> Any:
        module, optimizer = args
        names = {id(p): name for name, p in module.named_parameters()}
        for layer in backbone(module.model).layers:
            fully_shard(layer)
        fully_shard(module)
        shards = dict(module.named_parameters())
        for group in optimizer.param_groups:
            group["params"] = [shards[names[id(p)]] for p in group["params"]]
        assert all(isinstance(p, torch.distributed.tensor.DTensor) for p in shards.values())
        return module, optimizer


def join(optim: OptimSection) -> World:
    AcceleratorState._reset_state()
    return World(Sharding(kwargs_handlers=[InitProcessGroupKwargs(backend="gloo")]), "fsdp2")
