"""What a recipe cannot have under a sharding: by the word alone, before a process begins.

`align check --sharding`, `align plan`, `align launch` and the run itself ask here.
"""

from __future__ import annotations

from collections.abc import Iterator

from align.errors import Mistakes, UserError
from align.methods.base import OnlineMethod
from align.recipe.load import Recipe
from align.recipe.look_at_models import adapted
from align.training.optim import EIGHT_BIT

DIVIDED = ("zero3", "fsdp2")  # each rank has a share of the weights


def refuse_sharding(recipe: Recipe, sharding: str) -> None:
    """Mistakes with all that does not go together."""
    if found := list(mistakes(recipe, sharding)):
        raise Mistakes(found)


def mistakes(recipe: Recipe, sharding: str) -> Iterator[str]:
    """`sharding` is ddp, zero1, zero2, zero3 or fsdp2; none of one process."""
    if sharding == "fsdp2" and recipe.optim.optim == "Adafactor":
        yield "optim.optim: Adafactor keeps numbers for rows and columns; with fsdp2 take AdamW, or zero2"
    if sharding in ("zero1", "zero2", *DIVIDED) and recipe.optim.optim in EIGHT_BIT:
        yield f"optim.optim: {recipe.optim.optim} keeps its numbers in blocks of whole parameters; take AdamW, or ddp"
    if sharding in ("zero1", "zero2", *DIVIDED) and recipe.model.load_in_4bit:
        yield f"model.load_in_4bit: weights of 4 bits are not divided, and DeepSpeed knows none ({sharding}); take ddp"
    served = isinstance(recipe.method, OnlineMethod) and recipe.rollout.engine == "vllm"
    if served and sharding in DIVIDED and adapted(recipe.model):
        yield _merged(sharding)


def refuse_merged(sharding: str) -> None:
    """UserError where an adapter, which servers are given merged, has no whole weights below it on any rank."""
    if sharding in DIVIDED:
        raise UserError(_merged(sharding))


def _merged(sharding: str) -> str:
    return (
        f"rollout.engine: vllm is given the adapter merged, which shards ({sharding}) do not allow; launch with ddp or "
        "zero2, train without an adapter, or set rollout.engine: local"
    )
