"""Weights that move between steps: copied, averaged, extrapolated, tried and put back; on whole weights and on shards.

All of it happens in memory, each rank on its own pieces, alike on all of them, and never while a pass is under way. A
copy may be whole where the module it follows is cut by FSDP2: it is then fed with the gathered weights, one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from align.models.ahead import ADAPTER, Ahead, adapted
from align.models.embeddings import whole
from align.training.pieces import at_rest, piece_of, pieces, settle
from align.training.slopes import local
from align.training.step import Trainee
from align.world.distributed import World

COUNTERS = ("global_steps", "global_samples", "micro_steps", "skipped_steps")  # of DeepSpeed's engine
Taken = dict[str, Any]  # what `take` has cloned: tensors, numbers, dicts and lists of them
Moments = dict[int, dict[str, Any]]  # place in the optimiser -> its state there


def copy(into: Any, of: Any, world: World, names: Collection[str] | None = None) -> None:
    """Hard copy: `into` has the weights of `of`, bit for bit. Both are prepared modules with the same parameters.

    `names`: of the parameters that differ at all, where the others (an adapter's base) are the same for ever.
    """
    for mine, theirs in _beside(into, of, world, names):
        mine.copy_(theirs)
    settle(into)


def average(into: Any, of: Any, world: World, rate: float, names: Collection[str] | None = None) -> None:
    """Moving average: into <- (1 - rate) * into + rate * of, in float32."""
    for mine, theirs in _beside(into, of, world, names):
        mine.copy_(mine.float().lerp_(theirs.float(), rate))
    settle(into)


def hat(module: Any, world: World, names: Collection[str] | None = None) -> dict[str, Tensor]:
    """This rank's pieces as they are, in float32: where the next extrapolation begins."""
    found = pieces(module, world)
    return {name: p.float().clone() for name, p in found.items() if names is None or name in names}


def extrapolate(module: Any, world: World, before: Mapping[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """w <- w + alpha * (w - before), in float32 and rounded once; returns what w was, the next one's `before`.

    `before` must be what an earlier `hat` or `extrapolate` has given: solution minus solution, not minus where the
    module's own training began. Not of an adapter's factors, whose product is not linear in them (`jump`).
    """
    assert not any("lora_" in name for name in before), "the factors of an adapter cannot be extrapolated one by one"
    was = hat(module, world, before.keys())
    with torch.no_grad():
        for name, mine in pieces(module, world).items():
            if name in before:
                mine.copy_(torch.add(was[name], was[name] - before[name], alpha=alpha))
    settle(module)
    return was


def jump(module: Any, world: World, alpha: float | None = None) -> None:
    """The same of what an adapter's factors make together, beside them (`align.models.ahead`). Without `alpha` the
    model is where its first jump is to be from."""
    for layer in adapted(at_rest(module, world)).values():
        if hasattr(layer, "ahead"):
            down, up = (whole(part[ADAPTER].weight).float() for part in (layer.lora_A, layer.lora_B))
            up = layer.scaling[ADAPTER] * up
            layer.ahead = Ahead.at(down, up) if alpha is None else layer.ahead.jumped(down, up, alpha)


def straight(module: Any, world: World, names: Collection[str]) -> set[str]:
    """Those of the parameters that the weights are linear in: all but an adapter's factors."""
    within = tuple(f"{layer}.lora_" for layer in adapted(world.unwrap(module)))
    return {name for name in names if not name.startswith(within)}


def anchor_of(copy: Any, policy: Any, world: World) -> dict[str, Tensor]:
    """What a copy has at the places of this rank's pieces of the policy, by name; good until either changes."""
    theirs = dict(at_rest(copy, world).named_parameters())
    return {name: piece_of(theirs[name], like=p) for name, p in at_rest(policy, world).named_parameters()}


def _beside(into: Any, of: Any, world: World, names: Collection[str] | None) -> Iterator[tuple[Tensor, Tensor]]:
    """Pieces to be written, each with what stands at its place in the other module; gradients are off meanwhile."""
    theirs = dict(at_rest(of, world).named_parameters())
    mine = dict(at_rest(into, world).named_parameters())
    assert mine.keys() <= theirs.keys(), f"only one has {sorted(mine.keys() - theirs.keys())[:3]}"
    with torch.no_grad():
        for name, parameter in mine.items():
            if names is None or name in names:
                yield piece_of(parameter), piece_of(theirs[name], like=parameter)


# ---- a trial step ---------------------------------------------------------------------------------------------------


def take(trainee: Trainee) -> Taken:
    """All that an update changes, cloned: this rank's weights, float32 masters, moments, and the engine's counters."""
    module, world = trainee.module, trainee.world
    learned = {n for n, p in at_rest(module, world).named_parameters() if p.requires_grad or n in trainee.changing}
    return {
        "weights": {name: p.clone() for name, p in pieces(module, world).items() if name in learned},
        "masters": [m.detach().clone() for m in _masters(trainee)],
        "moments": moments(trainee),
        "counters": {name: getattr(module, name) for name in COUNTERS} if world.deepspeed else {},
    }


def put_back(trainee: Trainee, taken: Taken) -> None:
    """Everything as it was when it was taken, bit for bit. The learning rate's schedule is not part of it."""
    with torch.no_grad():
        for name, piece in pieces(trainee.module, trainee.world).items():
            if name in taken["weights"]:
                piece.copy_(taken["weights"][name])
        for master, was in zip(_masters(trainee), taken["masters"], strict=True):
            master.data.copy_(was)
    put_moments(trainee, taken["moments"])
    for name, count in taken["counters"].items():
        setattr(trainee.module, name, count)


def moments(trainee: Trainee) -> Moments:
    """This rank's moments, cloned. Of a new optimiser mostly none, since they are made in its first step."""
    base, owners = _moments_of(trainee)
    return {i: _each(base.state[p], torch.clone) for i, p in enumerate(owners) if p in base.state}


def put_moments(trainee: Trainee, was: Moments) -> None:
    """The moments as `moments` found them; who had none then has none again."""
    base, owners = _moments_of(trainee)
    with torch.no_grad():
        for i, owner in enumerate(owners):
            if i not in was:
                base.state.pop(owner, None)
            elif owner not in base.state:
                base.state[owner] = _each(was[i], torch.clone)
            else:
                _into(base.state[owner], was[i])


def _each(state: Mapping[str, Any], change: Callable[[Tensor], Tensor]) -> dict[str, Any]:
    return {key: change(value) if isinstance(value, Tensor) else value for key, value in state.items()}


def _into(state: dict[str, Any], was: Mapping[str, Any]) -> None:
    for key in state.keys() - was.keys():
        del state[key]
    for key, value in was.items():
        if isinstance(value, Tensor) and isinstance(state.get(key), Tensor):
            state[key].copy_(value)  # in place: ZeRO keeps views
        else:
            state[key] = value.clone() if isinstance(value, Tensor) else value


def _masters(trainee: Trainee) -> list[Tensor]:
    """Float32 weights of this rank, from which it steps, where the weights are not their own masters."""
    if not trainee.world.deepspeed:
        return [local(master.detach()) for _, master in trainee.masters.of.values()] if trainee.masters else []
    stage3 = trainee.world.sharding == "zero3"
    optimizer = trainee.module.optimizer
    return list(optimizer.fp32_partitioned_groups_flat if stage3 else optimizer.single_partition_of_fp32_groups)


def _moments_of(trainee: Trainee) -> tuple[Any, list[Tensor]]:
    """The optimiser that holds the moments, and what it holds them for, in an order that does not change."""
    if trainee.world.deepspeed:
        return trainee.module.optimizer.optimizer, _masters(trainee)
    base = getattr(trainee.optimizer, "optimizer", trainee.optimizer)  # out of accelerate's wrapper
    return base, [p for group in base.param_groups for p in group["params"]]
