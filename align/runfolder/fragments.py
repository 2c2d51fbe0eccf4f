"""State that is divided over ranks, in files of each rank, and read by any number of ranks that divide it otherwise.

A fragment is a run of entries of a tensor that is laid out flat: its name, the shape of the whole, where it begins.
With the weights go the numbers that an optimiser keeps for each of them. A reader asks for fragments of its own and
takes what overlaps them, from its own file first: where nothing has changed it opens no other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from align.errors import UserError
from align.runfolder.state_files import load_state, save_state

WEIGHT = "weight"


@dataclass(frozen=True)
class Fragment:
    """Flat tensors of one length, in place; empty ones have none."""

    name: str
    shape: tuple[int, ...]  # of the whole tensor
    start: int  # entry of the whole that is the first here
    tensors: Mapping[str, Tensor]  # `weight`, and what an optimiser has for each entry
    others: Mapping[str, Any] = field(default_factory=dict)  # what it has once: the number of its steps
    odd: Mapping[str, Tensor] = field(default_factory=dict)  # tensors of other shapes, of this very fragment

    @property
    def count(self) -> int:
        return next(iter(self.tensors.values())).numel()


def write(path: Path, rank: int, fragments: Sequence[Fragment], more: Mapping[str, Any] | None = None) -> None:
    """This rank's file beside those of the others; `more` is for itself alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    used: dict[int, int] = {}
    for tensor in (t for f in fragments for t in f.tensors.values()):
        used[_storage(tensor)] = used.get(_storage(tensor), 0) + tensor.numel() * tensor.element_size()

    def own(tensor: Tensor) -> Tensor:  # torch would save all of the memory that it is a view of
        return tensor if 2 * used[_storage(tensor)] > tensor.untyped_storage().nbytes() else tensor.clone()

    listed = [
        {
            "name": f.name, "shape": list(f.shape), "start": f.start,
            "tensors": {key: own(tensor.detach()) for key, tensor in f.tensors.items()},
            "others": dict(f.others), "odd": {key: tensor.detach().clone() for key, tensor in f.odd.items()},
        }
        for f in fragments if f.count
    ]  # fmt: skip
    save_state({"fragments": listed, "more": dict(more or {})}, _file(path, rank))


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _file(path: Path, rank: int) -> Path:
    return path.with_name(f"{path.name}-{rank:05d}.pt")


class Saved:
    """What all ranks have written, opened as it is asked for."""

    def __init__(self, path: Path, rank: int):
        self.path = path
        self.own = _file(path, rank)
        self._waiting = sorted(path.parent.glob(f"{path.name}-*.pt"), key=lambda file: (file != self.own, file))
        self._open: list[dict[str, list[Fragment]]] = []
        self.more: Mapping[str, Any] = {}  # of the own file
        if self._waiting[:1] == [self.own]:
            self._open_next()

    def of(self, name: str) -> Iterator[Fragment]:
        """The fragments of a tensor, file by file; whoever has enough opens no further file."""
        for number in range(len(self._open) + len(self._waiting)):
            if number == len(self._open):
                self._open_next()
            yield from self._open[number].get(name, ())

    def _open_next(self) -> None:
        file = self._waiting.pop(0)
        found, listed = load_state(file), dict[str, list[Fragment]]()
        for one in found["fragments"]:
            listed.setdefault(one["name"], []).append(Fragment(**{**one, "shape": tuple(one["shape"])}))
        self._open.append(listed)
        if file == self.own:
            self.more = found["more"]

    def fill(self, wanted: Sequence[Fragment]) -> list[str]:
        """Copies what is kept into the tensors of these; the names of those of which something is not there."""
        return [one.name for one in wanted if one.count and not self._filled(one)]

    def _filled(self, wanted: Fragment) -> bool:
        left = dict.fromkeys(wanted.tensors, wanted.count)
        for found in self.of(wanted.name):
            if found.shape != wanted.shape:
                return False
            low, high = max(found.start, wanted.start), min(found.start + found.count, wanted.start + wanted.count)
            for key, into in wanted.tensors.items():
                if low < high and key in found.tensors:
                    part = found.tensors[key][low - found.start : high - found.start]
                    with torch.no_grad():
                        into[low - wanted.start : high - wanted.start].copy_(part)
                    left[key] -= high - low
            if not any(left.values()):
                return True
        return False

    def whole(self, key: str = WEIGHT) -> dict[str, Tensor]:
        """What all files hold under this key, put together, by name."""
        while self._waiting:
            self._open_next()
        firsts = {name: parts[0] for listed in self._open for name, parts in listed.items() if key in parts[0].tensors}
        made = {n: torch.empty(math.prod(f.shape), dtype=f.tensors[key].dtype) for n, f in firsts.items()}
        lacking = self.fill([Fragment(name, f.shape, 0, {key: made[name]}) for name, f in firsts.items()])
        self.refuse_lacking(lacking, len(made))
        return {name: tensor.view(firsts[name].shape) for name, tensor in made.items()}

    def refuse_lacking(self, lacking: Sequence[str], total: int) -> None:
        """UserError where something that was asked for is not there."""
        if lacking:
            raise UserError(
                f"{self.path.parent}: is of another model: {len(lacking)} of {total} trained tensors are not in it as "
                f"this recipe has them, the first {lacking[0]}; resume it with its own recipe"
            )
