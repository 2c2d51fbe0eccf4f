"""Who holds what: the shardings that a launch file may ask for, and what each keeps for itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Literal

from align.plan.parts import gradients, moments, weights
from align.plan.work import SINGLE, Model, Work

BUCKET = 500_000_000  # numbers that DeepSpeed exchanges at once, and has a buffer for
LIVE = 1_000_000_000  # gathered weights that ZeRO-3 lets live


@dataclass(frozen=True, kw_only=True)
class Sharding:
    """What of a model is divided over the ranks. What is not is whole on each of them."""

    name: str
    engine: Literal["torch", "DeepSpeed"]
    moments: bool = False
    gradients: bool = False
    weights: bool = False
    frozen: bool = False  # models that do not learn
    away: Literal["", "optimizer", "weights"] = ""  # what is in the main memory: the optimiser's; the weights, too
    options: str = ""  # of `align launch` that ask for it

    def divides(self, model: Model) -> bool:
        """Whether a rank has only a share of this model's weights."""
        return model.divided and (self.weights if model.learns else self.frozen)


PLAIN = (
    Sharding(name="ddp", engine="torch"),
    Sharding(name="zero1", engine="DeepSpeed", moments=True),
    Sharding(name="zero2", engine="DeepSpeed", moments=True, gradients=True),
    Sharding(name="zero3", engine="DeepSpeed", moments=True, gradients=True, weights=True, frozen=True),
    Sharding(name="fsdp2", engine="torch", moments=True, gradients=True, weights=True, frozen=True),
)
SHARDINGS = {one.name: replace(one, options=f"--sharding {one.name}") for one in PLAIN}
OFFLOADED = tuple(
    replace(one, name=f"{name}, {words}", away=away, options=f"{one.options} --offload {option}")
    for name, away, words, option in (
        ("zero2", "optimizer", "optimiser on the CPU", "optimizer"),
        ("zero3", "optimizer", "optimiser on the CPU", "optimizer"), ("zero3", "weights", "all on the CPU", "param"),
    )
    for one in [SHARDINGS[name]]
)  # fmt: skip


def held_weights(model: Model, sharding: Sharding, ranks: int) -> float:
    """All of them, or a share. An adapter beside the policy's has no weights of its own below it where those are whole
    on every rank."""
    if sharding.divides(model):
        return 0.0 if sharding.away == "weights" else weights(model) / ranks
    return model.adapter * SINGLE if model.leans else weights(model)


def held_gradients(model: Model, sharding: Sharding, work: Work) -> float:
    """All of them, or a share. fsdp2 divides them in the last micro-batch of a step; until then they are whole."""
    if sharding.away:
        return 0.0
    waiting = sharding.engine == "torch" and work.micro_batches > 1
    return gradients(model) / (work.ranks if sharding.gradients and not waiting else 1)


def held_moments(model: Model, sharding: Sharding, ranks: int) -> float:
    """float32 where there are masters, whatever the weights are."""
    if sharding.away:
        return 0.0
    width = SINGLE if sharding.engine == "DeepSpeed" or model.masters else model.learned_width
    return moments(model, width) / (ranks if sharding.moments else 1)


def masters(model: Model, sharding: Sharding, ranks: int) -> float:
    """4 for each weight that learns: DeepSpeed updates a copy of its own, divided, also of float32 weights; with
    `optim.masters` so does torch, whole or divided as its moments are."""
    if sharding.away:
        return 0.0
    if sharding.engine == "DeepSpeed":
        return model.learned * SINGLE / ranks
    return model.learned * SINGLE / (ranks if sharding.moments else 1) if model.masters else 0.0


def flattened(model: Model, sharding: Sharding, ranks: int) -> float:
    """4 for each weight that has a master: the gradients once more, while the masters are updated."""
    return masters(model, sharding, ranks)


def buffers(work: Work, model: Model, sharding: Sharding) -> float:
    """What is exchanged, on its way.

    ddp: all gradients once more, in buckets. ZeRO: one bucket of 500 million numbers, two on a GPU below stage 3;
    stage 3 also lets up to a billion gathered weights live. fsdp2: two layers whole, the gradient of one, and what is
    outside of the layers.
    """
    if work.ranks == 1 and sharding.engine == "torch":
        return 0.0
    if sharding.name == "fsdp2":
        outside = sum(map(prod, model.shape.outside()))
        return (2 * model.shape.of_layer() + outside) * model.width + model.shape.of_layer() * model.learned_width
    if sharding.engine == "torch":
        return gradients(model)
    bucket = (BUCKET if work.gpu else min(BUCKET, model.learned)) * model.learned_width
    if not sharding.weights:
        return (2 if work.gpu else 1) * bucket
    return bucket + min(LIVE, model.weights) * model.width


def away(model: Model, sharding: Sharding, ranks: int) -> float:
    """What a rank has in the main memory: float32 weights, their gradients and what the optimiser remembers, divided;
    and where weights are there, too, a share of these."""
    if not sharding.away or not model.divided:
        return 0.0
    kept = weights(model) / ranks if sharding.away == "weights" else 0.0
    return kept + model.learned * SINGLE * (2 + model.moments) / ranks
