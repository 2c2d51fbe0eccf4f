"""What one learner is, its weights and its moments, into a folder and back; and its whole weights for `final/`.

Kept is what training changes: parameters that learn, those that learned before, and those that moves write. Each rank
writes what it has, in whatever way the learner is divided, and reads what it needs, from one that was divided otherwise
too (`align.runfolder.fragments`). Where there are float32 masters, ZeRO's or ours, these are the weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from align.errors import UserError
from align.models.embeddings import whole
from align.runfolder.fragments import WEIGHT, Fragment, Saved
from align.runfolder.fragments import write as write_fragments
from align.system.terminal import say
from align.training.moves import COUNTERS
from align.training.optim import remembered
from align.training.pieces import at_rest, fragment, fragments
from align.training.slopes import local
from align.training.step import Trainee

STATE = "state"  # a file of each rank: state-00000.pt


def changing(trainee: Trainee) -> set[str]:
    """The parameters that a checkpoint holds."""
    named = trainee.world.unwrap(trainee.module).named_parameters()
    return {name for name, p in named if p.requires_grad or name in trainee.changing}


def write(folder: Path, trainee: Trainee) -> None:
    """Each rank what it has; of what is whole everywhere the main one."""
    world = trainee.world
    owned = [f for owner in owners(trainee) for f in owner.fragments()] if _writes_moments(trainee) else []
    rest = changing(trainee) - {name for owner in owners(trainee) for name in owner.names}
    if world.main or world.divides:
        owned += fragments(trainee.module, world, rest)
    counters = {name: getattr(trainee.module, name) for name in COUNTERS} if world.deepspeed else {}
    if owned:
        write_fragments(folder / STATE, world.rank, owned, counters)


def _writes_moments(trainee: Trainee) -> bool:
    return trainee.world.main or trainee.world.divides or trainee.world.deepspeed


def read(folder: Path, trainee: Trainee) -> None:
    """What `write` has kept, into the trainee of every rank. UserError where it is of another model."""
    world, names = trainee.world, changing(trainee)
    saved = Saved(folder / STATE, world.rank)
    saved.refuse_lacking(saved.fill(fragments(trainee.module, world, names)), len(names))
    held = list(owners(trainee))
    if not all([owner.read(saved) for owner in held]) and world.main:
        kind = type(held[0].optimizer).__name__
        say(f"{folder}: has moments of another optimiser than {kind}, which has other ones: they begin anew")
    if trainee.masters is not None:
        trainee.masters.give_weights()
    for name, count in saved.more.items() if world.deepspeed else ():
        setattr(trainee.module, name, count)


# ---- whom an optimiser keeps its numbers for ------------------------------------------------------------------------


@dataclass(frozen=True)
class Owner:
    """A tensor that the optimiser steps, and which runs of which parameters it holds on this rank."""

    key: Any  # a parameter, or ZeRO's flat masters
    optimizer: Any
    held: tuple[tuple[int, Fragment], ...]  # where in `key` each begins; with its weights alone

    @property
    def names(self) -> list[str]:
        return [fragment.name for _, fragment in self.held]

    @property
    def state(self) -> dict[Any, dict[str, Any]]:
        return self.optimizer.state

    def fragments(self) -> Iterator[Fragment]:
        """With the moments, where there are some by now."""
        state = self.state.get(self.key, {})
        alike = {key: _flat(value) for key, value in state.items() if _for_each(value, self.key)}
        others = {key: value for key, value in state.items() if key not in alike and not _odd(value)}
        odd = {key: local(value) for key, value in state.items() if key not in alike and _odd(value)}
        for at, one in self.held:
            parts = {key: value[at : at + one.count] for key, value in alike.items()}
            yield replace(one, tensors={**one.tensors, **parts}, others=others, odd=odd)

    def read(self, saved: Saved) -> bool:
        """The masters, and the moments as they were, in the precision of now; none where there were none. False where
        they are of an optimiser that keeps other ones."""
        lacking = saved.fill([one for _, one in self.held])
        saved.refuse_lacking(lacking, len(self.held))
        found = [next(saved.of(one.name)) for _, one in self.held if one.count]
        kept = max(found, key=lambda f: float(f.others.get("step", 0)), default=None)
        self.state.pop(self.key, None)
        if kept is None or not (len(kept.tensors) > 1 or kept.others or kept.odd):
            return True
        ours = remembered(self.optimizer, local(self.key).detach())
        if ours.keys() - {*kept.tensors, *kept.others, *kept.odd}:
            return False
        alike = {key: _dtype(tensor, ours.get(key)) for key, tensor in kept.tensors.items() if key != WEIGHT}
        state: dict[str, Any] = {key: torch.zeros_like(self.key, dtype=dtype) for key, dtype in alike.items()}
        state = {key: value.detach() for key, value in state.items()}
        state |= {key: value.clone() if isinstance(value, Tensor) else value for key, value in kept.others.items()}
        if kept.odd:
            _refuse_cut(kept, self.held, saved)
            state |= {key: value.clone() for key, value in kept.odd.items()}
        self.state[self.key] = state
        for at, one in self.held:
            wanted = {key: _flat(state[key])[at : at + one.count] for key in kept.tensors if key != WEIGHT}
            if wanted:
                saved.fill([replace(one, tensors=wanted)])
        return True


def _dtype(kept: Tensor, ours: Any) -> torch.dtype:
    """Numbers follow the weights' precision where the optimiser has them so; those of 8 bits are codes."""
    both = kept.is_floating_point() and isinstance(ours, Tensor) and ours.is_floating_point()
    return ours.dtype if both else kept.dtype


def _refuse_cut(kept: Fragment, held: tuple[tuple[int, Fragment], ...], saved: Saved) -> None:
    """What an optimiser keeps for rows or columns cannot be divided anew."""
    if [(kept.start, kept.count)] != [(one.start, one.count) for _, one in held]:
        raise UserError(
            f"{saved.path.parent}: the optimiser keeps {', '.join(kept.odd)} for {kept.name}, which cannot be divided "
            "over another number of processes; resume with the world_size and sharding of the checkpoint"
        )


def owners(trainee: Trainee) -> list[Owner]:
    """In the optimiser's order."""
    world, optimizer = trainee.world, trainee.optimizer
    named = dict(at_rest(trainee.module, world).named_parameters())
    names = {id(p): name for name, p in named.items()}
    if not world.deepspeed:
        base = getattr(optimizer, "optimizer", optimizer)  # out of accelerate's wrapper
        ours = fragments(trainee.module, world, names.values())
        for name, (_, master) in trainee.masters.of.items() if trainee.masters else ():
            names[id(master)] = name
            ours.append(fragment(name, master, world))  # in the place of its weight
        held = {fragment.name: fragment for fragment in ours}
        listed = [p for group in base.param_groups for p in group["params"]]
        return [Owner(p, base, ((0, held[names[id(p)]]),)) for p in listed]
    engine = trainee.module.optimizer
    cut = _of_shards if world.sharding == "zero3" else _of_partitions
    return [Owner(master, engine.optimizer, tuple(held)) for master, held in cut(engine, names, world.rank)]


def _of_shards(engine: Any, names: Mapping[int, str], rank: int) -> Iterator[tuple[Tensor, list[tuple[int, Fragment]]]]:
    """ZeRO-3: a flat group has this rank's piece of every parameter, one after the other."""
    for master, parameters in zip(engine.fp32_partitioned_groups_flat, engine.fp16_groups, strict=True):
        at, held = 0, list[tuple[int, Fragment]]()
        for p in parameters:
            size = p.partition_numel()
            start = min(rank * size, p.ds_numel)
            part = master.detach()[at : at + min(size, p.ds_numel - start)]
            held.append((at, Fragment(names[id(p)], tuple(p.ds_shape), start, {WEIGHT: part})))
            at += size
        yield master, held


def _of_partitions(
    engine: Any, names: Mapping[int, str], rank: int
) -> Iterator[tuple[Tensor, list[tuple[int, Fragment]]]]:
    """ZeRO-1 and 2: this rank's part of a flat group cuts through parameters."""
    for master, parameters in zip(engine.single_partition_of_fp32_groups, engine.bit16_groups, strict=True):
        held: list[tuple[int, Fragment]] = []
        for p in parameters:
            mapped = getattr(p, "_hp_mapping", None)  # None where the whole of it is with other ranks
            at = mapped.get_hp_fragment_address() if mapped else None
            first, count = (at.start, at.numel) if at else (0, 0)
            start = mapped.lp_fragment_address.start if mapped else 0
            part = master.detach()[first : first + count]
            held.append((first, Fragment(names[id(p)], tuple(p.shape), start, {WEIGHT: part})))
        yield master, held


def _for_each(value: Any, key: Tensor) -> bool:
    """Whether it has an entry for each of the key's."""
    return isinstance(value, Tensor) and value.ndim > 0 and value.shape == key.shape


def _odd(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim > 0


def _flat(tensor: Any) -> Tensor:
    return local(tensor).detach().view(-1)


# ---- final/ ---------------------------------------------------------------------------------------------------------


def whole_weights(trainee: Trainee) -> dict[str, Tensor] | None:
    """What `final/` is written from where the model's own weights are shards; None where they are whole.

    On the main process's CPU, by the names of the model inside the Scorer; of an adapter only what training changes.
    All ranks take part; the others get {}.
    """
    world = trainee.world
    if not world.divides:
        return None
    scorer = at_rest(trainee.module, world)
    model: Any = scorer.model
    adapter, wanted = hasattr(model, "peft_config"), changing(trainee)
    found: dict[str, Tensor] = {}
    copies: dict[int, Tensor] = {}  # tied weights stay one tensor
    for name, tensor in model.state_dict(keep_vars=True).items():
        if adapter and f"model.{name}" not in wanted:
            continue
        if id(tensor) not in copies:
            all_of_it = whole(tensor)
            copies[id(tensor)] = all_of_it.cpu() if world.main else torch.empty(0)
        if world.main:
            found[name] = copies[id(tensor)]
    return found
