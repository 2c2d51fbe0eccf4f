"""What a launcher was asked for and this project would ignore: the launcher says where, the recipe says what.

`accelerate launch` hands its flags and its configuration file over in the environment. Whatever of it would change the
numbers or the memory of a run and is not heeded here is refused, with the key that is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from align.errors import UserError
from align.world.engine import offloaded

OFF = ("", "no", "none", "false", "0")


@dataclass(frozen=True)
class Ignored:
    """A variable of the environment that says something only where it is not one of `harmless`."""

    name: str
    flag: str  # as accelerate's command line and files spell it
    cure: str
    harmless: tuple[str, ...] = OFF


CPU_ALONE = "take cpu: what lies on NVMe is in no checkpoint"
ALWAYS = (
    Ignored("ACCELERATE_DYNAMO_BACKEND", "dynamo_backend", "models are not compiled"),
    Ignored(
        "ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "gradient_accumulation_steps",
        "training.batch_size is a whole step and training.max_tokens a micro-batch", (*OFF, "1", "auto"),
    ),
    Ignored("ACCELERATE_GRADIENT_CLIPPING", "gradient_clipping", "clipping is optim.max_grad_norm"),
    Ignored("ACCELERATE_USE_MEGATRON_LM", "use_megatron_lm", "take ddp, fsdp2, zero2 or zero3"),
    Ignored("ACCELERATE_USE_PARALLELISM_CONFIG", "use_parallelism_config", "take ddp, fsdp2, zero2 or zero3"),
    Ignored("ACCELERATE_DOWNCAST_BF16", "downcast_bf16", "precision is training.mixed_precision and model.dtype"),
)  # fmt: skip
OF_DEEPSPEED = (
    Ignored("ACCELERATE_DEEPSPEED_CONFIG_FILE", "deepspeed_config_file", "the engine's settings are made here"),
    Ignored("ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE", "offload_optimizer_device", CPU_ALONE, (*OFF, "cpu")),
    Ignored("ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE", "offload_param_device", CPU_ALONE, (*OFF, "cpu")),
    Ignored("ACCELERATE_DEEPSPEED_ZERO3_SAVE_16BIT_MODEL", "zero3_save_16bit_model", "final/ is whole"),
    Ignored("ACCELERATE_DEEPSPEED_MOE_LAYER_CLS_NAMES", "deepspeed_moe_layer_cls_names", "they are sharded as others"),
)  # fmt: skip
OF_FSDP = (
    Ignored("FSDP_VERSION", "fsdp_version", "set it to 2", ("2",)),
    Ignored("FSDP_OFFLOAD_PARAMS", "fsdp_offload_params", "true or false", (*OFF, "true")),
    Ignored(
        "FSDP_CPU_RAM_EFFICIENT_LOADING", "fsdp_cpu_ram_efficient_loading",
        "set it to false: one rank reads each layer, and all divide it",
    ),
    Ignored(
        "FSDP_AUTO_WRAP_POLICY", "fsdp_auto_wrap_policy", "each decoder layer is a unit: TRANSFORMER_BASED_WRAP",
        (*OFF, "transformer_based_wrap"),
    ),
    Ignored("FSDP_TRANSFORMER_CLS_TO_WRAP", "fsdp_transformer_layer_cls_to_wrap", "each decoder layer is a unit"),
    Ignored("FSDP_ACTIVATION_CHECKPOINTING", "fsdp_activation_checkpointing", "set training.gradient_checkpointing"),
    Ignored("FSDP_IGNORED_MODULES", "fsdp_ignored_modules", "every layer is sharded"),
)  # fmt: skip
FIELDS = ("deepspeed_config_file", "gradient_accumulation_steps", "gradient_clipping", "zero3_save_16bit_model")


def refuse_ignored(precision: str) -> None:
    """UserError naming everything that would be ignored. `precision` is the mixed precision that will come true."""
    found = dict(_found(precision))
    if offloaded("param") and os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2") != "3":
        found["offload_param_device cpu"] = "weights are divided, and kept elsewhere, by ZeRO-3 alone: zero_stage 3"
    if found:
        told = "; ".join(f"{flag} ({cure})" for flag, cure in found.items())
        raise UserError(
            f"launcher (or its file): asks for what is decided elsewhere: {told}. Leave it out, or set it as said"
        )


def _found(precision: str) -> Iterator[tuple[str, str]]:
    asked = os.environ.get("ACCELERATE_MIXED_PRECISION", "").lower()
    if asked not in (*OFF, precision):
        yield f"mixed_precision {asked}", f"here it is {precision}: training.mixed_precision, auto, no or bf16"
    zero, fsdp = (_on(f"ACCELERATE_USE_{name}") for name in ("DEEPSPEED", "FSDP"))
    for one in (*ALWAYS, *(OF_DEEPSPEED if zero else ()), *(OF_FSDP if fsdp else ())):
        value = os.environ.get(one.name, "")
        if value.lower() not in one.harmless:
            yield f"{one.flag} {value}".strip(), one.cure
    fields = os.environ.get("ACCELERATE_CONFIG_DS_FIELDS", "").split(",") if zero else ()
    cures = {one.flag: one.cure for one in (*ALWAYS, *OF_DEEPSPEED)}
    yield from ((field, cures[field]) for field in fields if field in FIELDS)


def _on(name: str) -> bool:
    return os.environ.get(name, "").lower() not in OFF
