"""A model whose weights are not read yet: they are read one by one, as it is divided over the ranks.

A hollow parameter has its shape and its precision and takes no room: all its entries are one NaN. What is `stored` with
it knows the place in the files. Until `align.world.shards` fills it, it may be counted, tied, frozen and wrapped by an
adapter, and whoever computes with it gets NaN.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from torch import Tensor, nn

from align.errors import UserError
from align.models.sources import weight_files

# by safetensors' names
DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16, "F64": torch.float64}


@dataclass(frozen=True)
class Stored:
    """Where a tensor stands in a safetensors file, and in which precision it is wanted."""

    file: Path
    name: str
    start: int  # byte in the file
    shape: tuple[int, ...]
    written: torch.dtype
    wanted: torch.dtype

    def read(self) -> Tensor:
        """A tensor of its own: a map of the file would keep all of it in this process's memory. UserError."""
        found = torch.empty(self.shape, dtype=self.written)
        if found.numel():
            with open(self.file, "rb") as opened:
                opened.seek(self.start)
                room: Any = found.view(-1).view(torch.uint8).numpy()
                if opened.readinto(room) != len(room):
                    raise UserError(f"{self.file}: ends within {self.name}; the file is damaged, copy it again")
        found = found.to(self.wanted)
        if found.numel() and not torch.stack(torch.aminmax(found)).isfinite().all():
            raise UserError(
                f"{self.file}: {self.name} holds NaN or infinity; it was spoilt before it was saved, take an earlier "
                "checkpoint or another model"
            )
        return found


def is_hollow(model: nn.Module) -> bool:
    return any(hasattr(p, "stored") for p in model.parameters())


def hollow(model: Any, folder: str, missing: set[str]) -> bool:
    """Makes the parameters of a model on the meta device hollow, those `missing` in its files real and without values.

    False, and nothing is changed, where the files do not hold each parameter under a name of its own: weights that are
    put together of several, as those of experts are, can only be read whole.
    """
    names = {name: p for name, p in model.named_parameters() if name not in missing}
    listed, prefix = _listed(folder), f"{model.base_model_prefix}."
    places: dict[int, Stored] = {}
    for name, parameter in names.items():
        found = next((n for n in (name, f"{prefix}{name}", name.removeprefix(prefix)) if n in listed), None)
        if found is None or listed[found].shape != tuple(parameter.shape):
            return False
        stored = listed[found]
        places[id(parameter)] = Stored(
            stored.file, stored.name, stored.start, stored.shape, stored.written, parameter.dtype
        )
    _give_buffers(model)
    _replace(model, places)
    return True


def _listed(folder: str) -> dict[str, Stored]:
    """What the files of a folder hold, by name; whole numbers apart."""
    found: dict[str, Stored] = {}
    for file in weight_files(folder):
        with open(file, "rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            header: dict[str, Any] = json.loads(opened.read(length))
        for name, entry in header.items():
            if name != "__metadata__" and (dtype := DTYPES.get(entry["dtype"])):
                start = 8 + length + entry["data_offsets"][0]
                found[name] = Stored(file, name, start, tuple(entry["shape"]), dtype, dtype)
    return found


def _replace(model: nn.Module, places: dict[int, Stored]) -> None:
    made: dict[int, nn.Parameter] = {}  # tied weights stay one parameter
    for module, name, parameter in list(_owned(model)):
        if id(parameter) not in made:
            stored = places.get(id(parameter))
            if stored is None:
                entries = torch.empty(parameter.shape, dtype=parameter.dtype)
            else:
                entries = torch.full((), math.nan, dtype=parameter.dtype).expand(parameter.shape)
            new: Any = nn.Parameter(entries, requires_grad=parameter.requires_grad)
            if stored is not None:
                new.stored = stored
            made[id(parameter)] = new
        module._parameters[name] = made[id(parameter)]


def _owned(model: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Parameter]]:
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            yield module, name, parameter


def _give_buffers(model: Any) -> None:
    """Those that a model makes for itself, such as the frequencies of its positions, which meta ones lack."""
    with torch.random.fork_rng(devices=[]), init_empty_weights(include_buffers=False):
        real = type(model)(model.config)
    theirs = {name: module for name, module in real.named_modules()}
    for where, module in model.named_modules():
        for name in list(module._buffers):
            module._buffers[name] = theirs[where]._buffers[name]
