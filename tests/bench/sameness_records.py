"""What is kept of a run so that another can be held against it, and where two of them part.

A record is {file: {place in it: value}}, in the order in which a run makes them. A number is kept as it is, a tensor as
the beginning of a sha256 and one number, the sum of its elements with fixed signs: for two tensors that differ, the
difference of those is about as large as the norm of the tensors' difference.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.helpers.small_runs import TIMES, lines, metrics, told

Leaf = Any  # number, text, or [sum, signed sum] of a tensor
Record = dict[str, dict[str, Leaf]]
DIGITS = 10  # of a sum that are kept


def record_of(run: Path, of_data: Path) -> Record:
    """Of a finished run folder, and of the cache of prepared data that it alone has used."""
    prepared = sorted(of_data.glob("*/*/*.bin"))
    found: Record = {"tokens": {"/".join(p.parts[-2:]): sum_of(p.read_bytes()) for p in prepared}}
    known = sorted(sum_of(p.read_bytes()) for p in of_data.glob("logps/*"))  # their names tell of tokens and weights
    found["cached log-probabilities"] = {str(i): of_file for i, of_file in enumerate(known)}
    found |= _json(run / "test_before.json")
    checkpoints = sorted((run / "checkpoints").glob("step-*"))
    for row in metrics(run):
        found[f"metrics.jsonl, step {row['step']}"] = row
        for folder in checkpoints:
            if int(folder.name.removeprefix("step-")) == row["step"]:
                found |= _files(folder, run)
    found["values"] = {p.name: sum_of(p.read_bytes()) for p in sorted((run / "values").glob("*.jsonl"))}
    found["completions.jsonl"] = _completions(run / "completions.jsonl")
    for folder in (run / "final", run / "critic"):
        found |= _files(folder, run)
    found |= _json(run / "outcome.json") | _json(run / "test.json")
    return {file: of for file, of in found.items() if of}


def _files(folder: Path, run: Path) -> Record:
    """Tensors and numbers of a model's or a checkpoint's folder; not what says of which run it is, and when."""
    found: Record = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(run).as_posix()
        if path.suffix == ".safetensors":
            found[name] = dict(leaves(load_file(path)))
        elif path.suffix == ".pt":
            found[name] = dict(leaves(torch.load(path, weights_only=True)))
        elif path.name == "progress.json":
            found[name] = dict(leaves(told(path)))
    return found


def _json(path: Path) -> Record:
    return {path.name: dict(leaves(told(path)))} if path.exists() else {}


def _completions(path: Path) -> dict[str, Leaf]:
    rows = lines(path) if path.exists() else []
    return {f"step {row['step']}, {i}": sum_of(json.dumps(row).encode()) for i, row in enumerate(rows)}


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, Leaf]]:
    """Of nested mappings and sequences; a list of plain values is one text, times are left out."""
    if isinstance(value, Tensor) and not value.ndim:
        yield name, value.item()
    elif isinstance(value, Tensor):
        yield name, [sum_of(_bytes(value)), signed_sum(value)]
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            if key not in TIMES:
                yield from leaves(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple) and any(isinstance(v, Tensor | Mapping | list | tuple) for v in value):
        for i, inner in enumerate(value):
            yield from leaves(inner, f"{name}.{i}")
    elif isinstance(value, list | tuple | str):
        yield name, sum_of(json.dumps(value).encode())
    else:
        yield name, value


def sum_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:DIGITS]


def _bytes(tensor: Tensor) -> bytes:
    about = f"{tensor.dtype} {tuple(tensor.shape)} ".encode()
    return about + tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def signed_sum(tensor: Tensor) -> float:
    """In float64; of what is not finite, not finite."""
    values = tensor.detach().reshape(-1).double().numpy()
    return float(f"{float(values @ _signs(len(values))):.9g}")


@cache
def _signs(count: int) -> np.ndarray:
    bits = np.frombuffer(hashlib.shake_128(b"signs").digest(-(-count // 8)), dtype=np.uint8)
    return np.unpackbits(bits)[:count] * 2.0 - 1.0


# ---- comparing ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Difference:
    """A place at which two records differ."""

    file: str
    place: str
    before: Leaf
    now: Leaf

    @property
    def size(self) -> float:
        """How far two numbers, or about how far two tensors are apart; 0 of what has no size."""
        ends = [v[1] if isinstance(v, list) else v for v in (self.before, self.now)]
        known = all(isinstance(v, int | float) for v in ends)
        return abs(ends[1] - ends[0]) if known else 0.0

    def __str__(self) -> str:
        where = f"{self.file}: {self.place}"
        if isinstance(self.before, list) and isinstance(self.now, list):
            return f"{where}: the tensors are about {self.size:.2g} apart"
        if self.size:
            return f"{where}: was {self.before}, is {self.now}, {self.size:.2g} apart"
        return f"{where}: was {self.before}, is {self.now}"


def differences(before: Record, now: Record) -> list[Difference]:
    """In the order in which the run came to them. A file or a place that one has not is None there."""
    found: list[Difference] = []
    for file in [*before, *(f for f in now if f not in before)]:
        old, new = before.get(file, {}), now.get(file, {})
        places = [*old, *(p for p in new if p not in old)]
        found += [Difference(file, p, old.get(p), new.get(p)) for p in places if not alike(old.get(p), new.get(p))]
    return found


def alike(old: Leaf, new: Leaf) -> bool:
    """Bitwise; of a tensor its sha256 decides."""
    if isinstance(old, list) and isinstance(new, list):
        return old[0] == new[0]
    return old == new or (old != old and new != new)


def told_of(found: Sequence[Difference]) -> list[str]:
    """How many differences there are, the first of them, and the largest; nothing where there is none."""
    if not found:
        return []
    files = list(dict.fromkeys(d.file for d in found))
    largest = max(found, key=lambda d: d.size)
    several = [f"largest: {largest}"] if largest != found[0] else []
    return [f"differing places: {len(found)}; files: {len(files)}", f"first: {found[0]}", *several]
