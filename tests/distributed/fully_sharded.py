"""FSDP2 on the CPU, over gloo, which accelerate's launcher only offers on GPUs; the sharding is accelerate's own.

All else is what runs on GPUs: step, evaluation, checkpoints, completions, whole weights.
"""

from __future__ import annotations

from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import FullyShardedDataParallelPlugin, InitProcessGroupKwargs
from accelerate.utils.fsdp_utils import fsdp2_prepare_model
from torch.distributed.fsdp import FSDPModule

from align.models.parts import backbone
from align.world.distributed import World


class Sharding(Accelerator):
    """Shards as launch/accelerate/fsdp2.yaml says, and gives the optimiser the shards."""

    def prepare(self, *args: Any, **kwargs: Any) -> Any:
        module, optimizer = args
        names = {id(p): name for name, p in module.named_parameters()}
        self.state.fsdp_plugin = FullyShardedDataParallelPlugin(
            fsdp_version=2,
            reshard_after_forward=True,
            auto_wrap_policy="transformer_based_wrap",
            cpu_ram_efficient_loading=False,
        )
        module = fsdp2_prepare_model(self, module)
        assert all(isinstance(layer, FSDPModule) for layer in backbone(module.model).layers)
        shards = dict(module.named_parameters())
        for group in optimizer.param_groups:
            group["params"] = [shards[names[id(p)]] for p in group["params"]]
        assert all(isinstance(p, torch.distributed.tensor.DTensor) for p in shards.values())
        return module, optimizer


def join(max_grad_norm: float, mixed_precision: str = "auto") -> World:
    AcceleratorState._reset_state()
    return World(Sharding(kwargs_handlers=[InitProcessGroupKwargs(backend="gloo")]), "fsdp2")
