"""What DeepSpeed's engine is told: what the launch file says of ZeRO and of offloading, and what is decided here."""

from __future__ import annotations

import os
from typing import Any

import torch


def deepspeed_config(stage: int, max_grad_norm: float, *, trained: bool = True) -> dict[str, Any]:
    """The engine's settings. Micro-batches, accumulation and precision are ours, so they are all 1 and float32 here."""
    zero: dict[str, Any] = {"stage": stage, "contiguous_gradients": True, "overlap_comm": torch.cuda.is_available()}
    if stage == 3:
        zero |= {"stage3_gather_16bit_weights_on_model_save": False, "stage3_param_persistence_threshold": 0}
    for part in ("optimizer", "param"):
        if offloaded(part) and (trained or part == "param"):
            zero[f"offload_{part}"] = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": max_grad_norm,  # by name: left out, accelerate makes it 1.0
        "zero_optimization": zero,
        "zero_force_ds_cpu_optimizer": False,
        "zero_allow_untested_optimizer": True,
    }


def offloaded(part: str) -> bool:
    """Whether the launch file keeps this in the main memory: `optimizer` (masters, moments, gradients) or `param`."""
    return os.environ.get(f"ACCELERATE_DEEPSPEED_OFFLOAD_{part.upper()}_DEVICE", "").lower() == "cpu"


def build_nothing() -> None:
    """DeepSpeed would compile collectives over shared memory, which only its inference calls: a minute of work, under a
    lock that a process which is killed meanwhile leaves behind for ever."""
    from deepspeed import ops

    ops.__compatible_ops__["deepspeed_shm_comm"] = False
