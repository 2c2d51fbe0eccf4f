"""Each rank's own piece of a module's weights, however they are sharded: what may be read and written between passes.

A write into a piece is a write into the weight. Three things undo it in silence, and are seen to here: ZeRO-3 and
FSDP2 keep weights whole after a pass, and write back what they have kept; ZeRO steps from masters of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import distribute_tensor

from align.errors import UserError
from align.models.embeddings import gathered
from align.runfolder.state_files import load_state, save_state
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


def whole(parameter: Any) -> Tensor:
    """All of it on every rank, a copy; all of them ask together, where it is at rest."""
    with gathered(parameter):
        found = parameter.detach()
        return found.full_tensor() if hasattr(found, "full_tensor") else found.clone()


def settle(module: Any) -> None:
    """After pieces of a trained module were written: ZeRO's masters are storage of their own, and become what they say.

    Otherwise the next step would begin where the masters still are.
    """
    refresh = getattr(getattr(module, "optimizer", None), "refresh_fp32_params", None)
    if refresh is not None:
        refresh()


@contextmanager
def as_if_learned(module: nn.Module, names: Collection[str]) -> Iterator[None]:
    """These parameters, and no others, require a gradient within the block."""
    before = {name: p.requires_grad for name, p in module.named_parameters()}
    for name, p in module.named_parameters():
        p.requires_grad_(name in names)
    try:
        yield
    finally:
        for name, p in module.named_parameters():
            p.requires_grad_(before[name])


def save_pieces(path: Path, module: Any, world: World, names: Collection[str]) -> None:
    """These parameters into a file of each rank, where ranks have different ones, else into the main one's."""
    if world.main or world.divides:
        found = pieces(module, world)
        path.parent.mkdir(exist_ok=True)
        save_state({name: found[name].clone() for name in sorted(names)}, _of_rank(path, world))


def load_pieces(path: Path, module: Any, world: World, names: Collection[str]) -> None:
    """Puts back what `save_pieces` kept. UserError where it is not there, or is of another model."""
    if not names:
        return
    file = _of_rank(path, world)
    found, into = load_state(file) if file.exists() else {}, pieces(module, world)
    wrong = [n for n in sorted(names) if n not in found or found[n].shape != into[n].shape]
    if wrong:
        raise UserError(
            f"{file}: {len(wrong)} of {len(names)} tensors that move are not in it as this recipe has them, the first "
            f"{wrong[0]}; resume it with its own recipe"
        )
    with torch.no_grad():
        for name in names:
            into[name].copy_(found[name])


def _of_rank(path: Path, world: World) -> Path:
    rank = world.rank if world.divides else 0
    return path.with_name(f"{path.name}-{rank:05d}.pt")
