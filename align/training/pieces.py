"""Each rank's own piece of a module's weights, however they are sharded: what may be read and written between passes.

A write into a piece is a write into the weight. Three things undo it in silence, and are seen to here: ZeRO-3 and
FSDP2 keep weights whole after a pass, and write back what they have kept; ZeRO steps from masters of its own.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.distributed.tensor import distribute_tensor

from align.runfolder.fragments import WEIGHT, Fragment, Saved, write
from align.world.distributed import World


def at_rest(module: Any, world: World) -> Any:
    """The Scorer inside a prepared module, nothing of it whole that is kept as shards."""
    inner = world.unwrap(module)
    if world.sharding == "zero3":
        module.optimizer.empty_partition_cache()
    if world.sharding == "fsdp2" and hasattr(inner, "reshard"):
        inner.reshard()
    return inner


def pieces(module: Any, world: World) -> dict[str, Tensor]:
    """By name, this rank's piece of every parameter, in place; good until the next pass. All of it where it is whole.

    Under ZeRO-3 a piece is flat, and of the last rank it ends in padding.
    """
    return {name: piece_of(p) for name, p in at_rest(module, world).named_parameters()}


def piece_of(parameter: Any, like: Any = None) -> Tensor:
    """This rank's piece, in place; of the entries that it has of `like`, of the same shape, where that is given.

    Of two parameters of one shape FSDP2 may keep one whole and the other cut: the first is cut alike, the second
    gathered, in a tensor of its own.
    """
    like = parameter if like is None else like
    if hasattr(parameter, "ds_tensor"):
        return parameter.ds_tensor.data
    cut = hasattr(parameter, "to_local")
    if cut and not hasattr(like, "to_local"):
        return parameter.detach().full_tensor()
    if not cut and hasattr(like, "to_local"):
        whole = parameter.detach()
        return distribute_tensor(whole, like.device_mesh, like.placements, src_data_rank=None).to_local()
    return parameter.detach().to_local() if cut else parameter.data


def settle(module: Any) -> None:
    """After pieces of a trained module were written: ZeRO's masters are storage of their own, and become what they say.

    Otherwise the next step would begin where the masters still are.
    """
    refresh = getattr(getattr(module, "optimizer", None), "refresh_fp32_params", None)
    if refresh is not None:
        refresh()


def fragments(module: Any, world: World, names: Collection[str]) -> list[Fragment]:
    """This rank's pieces of these parameters, and where in the whole they stand; all of it where it is whole."""
    named = at_rest(module, world).named_parameters()
    return [fragment(name, p, world) for name, p in named if name in names]


def fragment(name: str, parameter: Any, world: World) -> Fragment:
    """This rank's piece of one."""
    piece = piece_of(parameter).view(-1)
    shape = tuple(getattr(parameter, "ds_shape", parameter.shape))
    start = 0
    if hasattr(parameter, "ds_tensor"):  # equal runs, the last one padded
        start = min(world.rank * piece.numel(), parameter.ds_numel)
        piece = piece[: max(0, parameter.ds_numel - start)]
    elif hasattr(parameter, "to_local"):  # equal numbers of rows, the last ones fewer
        start = min(world.rank * -(-shape[0] // world.size), shape[0]) * math.prod(shape[1:])
    return Fragment(name, shape, start, {WEIGHT: piece})


def save_pieces(path: Path, module: Any, world: World, names: Collection[str]) -> None:
    """These parameters into a file of each rank, where ranks have different ones, else into the main one's."""
    if world.main or world.divides:
        write(path, world.rank, fragments(module, world, names))


def load_pieces(path: Path, module: Any, world: World, names: Collection[str]) -> None:
    """Puts back what `save_pieces` kept, in whatever world. UserError where it is not there, or is of another model."""
    saved = Saved(path, world.rank)
    saved.refuse_lacking(saved.fill(fragments(module, world, names)), len(names))
