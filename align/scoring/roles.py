"""The frozen models beside the policy, as makers of stored columns."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from align.batches import Group
from align.models.frozen import adapter_off
from align.scoring.experience import Batching, Columns, ModelRole
from align.scoring.layout import Rows
from align.system.files import replacing, sweep

BLOCK = 1 << 24  # bytes read at a time
Say = Callable[[str], Any]


@dataclass(frozen=True)
class AdapterOff:
    """The policy without its adapter: the weights that training started from, where the adapter is new."""

    module: Any  # the prepared Scorer

    @property
    def training(self) -> bool:
        return self.module.training

    def train(self, mode: bool = True) -> Any:
        return self.module.train(mode)

    def __call__(
        self, rows: Rows, columns: Sequence[str], num_chunks: int, temperature: float = 1.0
    ) -> dict[str, Tensor]:
        with adapter_off(self.module):
            return self.module(rows, columns, num_chunks, temperature)


@dataclass(frozen=True)
class CachedRole:
    """Log-probabilities of a whole data set, computed once, read from a memory-mapped file by row."""

    values: np.ndarray  # float32, all completion tokens of all rows end to end
    starts: np.ndarray  # (rows, members) int64

    def stored(
        self, batching: Batching, asked: Mapping[str, tuple[str, ...]], groups: Sequence[Group]
    ) -> dict[tuple[str, str], Tensor]:
        names = list(batching.needs.members)
        assert all(columns == ("logps",) for columns in asked.values()), "log-probabilities alone are cached"
        return {(m, "logps"): self._member(names.index(m), groups) for m in asked}

    def _member(self, position: int, groups: Sequence[Group]) -> Tensor:
        out = torch.zeros(len(groups), max(len(g.members[position].completion) for g in groups))
        for i, group in enumerate(groups):
            start, length = self.starts[group.index, position], len(group.members[position].completion)
            out[i, :length] = torch.from_numpy(self.values[start : start + length].copy())
        return out


def cached(
    path: Path, model: Columns | None, batching: Batching, store: Any, portion: int, say: Say = lambda text: None
) -> CachedRole:
    """Opens the cache file `path`, made first by scoring every row of `store`, in order, `portion` rows at a time.

    `model` may be None where the file is there already. The file's name must say all that the numbers depend on; its
    last bytes are the sum of the numbers, and a file that differs from it is made again, aloud.
    """
    members = tuple(batching.needs.members)
    lengths = np.array([[c for _, c in store.lengths(i)] for i in range(len(store))], dtype=np.int64)
    lengths = lengths.reshape(len(store), len(members))
    starts = np.concatenate([[0], lengths.ravel().cumsum()[:-1]]).reshape(lengths.shape) if len(store) else lengths
    size = int(lengths.sum()) * np.dtype(np.float32).itemsize
    whole = batching.world.once_per_machine(lambda: _is_whole(path, size))
    if not all(batching.world.everyone(whole)):  # one answer for all: filling is done together
        if path.is_file():
            say(f"cache of reference log-probabilities {path}: is damaged, and is made again")
        assert model is not None, "a cache that is not whole needs the model that fills it"
        _fill(path, model, batching, store, portion)
    count = size // np.dtype(np.float32).itemsize
    values = np.memmap(path, dtype=np.float32, mode="r", shape=(count,)) if count else np.zeros(0, np.float32)
    return CachedRole(values, starts)


def _is_whole(path: Path, size: int) -> bool:
    """Whether the file has the numbers that were written, `size` bytes, and their sum."""
    try:
        if path.stat().st_size != size + hashlib.sha256().digest_size:
            return False
        numbers = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(min(BLOCK, size - file.tell())):
                numbers.update(block)
            return file.read() == numbers.digest()
    except OSError:
        return False


def _fill(path: Path, model: Columns, batching: Batching, store: Any, portion: int) -> None:
    role = ModelRole(model)
    members = tuple(batching.needs.members)
    aside = path.with_suffix(f".{os.getpid()}.tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent, "*.tmp")
    writes = batching.world.accelerator.is_local_main_process  # each machine may have a cache of its own
    numbers = hashlib.sha256()
    with replacing(path, aside) if writes else open(os.devnull, "wb") as out:
        for start in range(0, len(store), portion):
            groups = [store[i] for i in range(start, min(start + portion, len(store)))]
            made = role.stored(batching, dict.fromkeys(members, ("logps",)), groups)
            for i, group in enumerate(groups):
                for position, member in enumerate(members):
                    logps = made[member, "logps"][i, : len(group.members[position].completion)].numpy().tobytes()
                    out.write(logps)
                    numbers.update(logps)
        if writes:
            out.write(numbers.digest())
    batching.world.barrier()
