"""Checkpoints of random bytes, for tests of how they are written, damaged and found."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from align.runfolder import checkpoint

STEPS = [10, 20, 30]


@contextlib.contextmanager
def writing(root: Path, step: int) -> Iterator[Path]:
    """What one process does to save."""
    tmp = checkpoint.begin(root, step)
    with checkpoint.guarded(tmp):
        yield tmp
        checkpoint.commit(tmp, step)


def content(step: int) -> dict[str, bytes]:
    draw = np.random.default_rng(step)
    sizes = {"model.safetensors": 4000, "ranks/rank-0.pt": 900, "ranks/rank-1.pt": 901}
    return {name: draw.bytes(size) for name, size in sizes.items()}


def save(root: Path, step: int) -> Path:
    with writing(root, step) as tmp:
        for name, data in content(step).items():
            (tmp / name).parent.mkdir(exist_ok=True)
            (tmp / name).write_bytes(data)
    return checkpoint.folder(root, step)


def read(path: Path) -> dict[str, bytes]:
    inside = [p for p in path.rglob("*") if p.is_file() and p.name != "manifest.json"]
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in inside}


def three(root: Path) -> Path:
    """A folder with a checkpoint of each of STEPS."""
    for step in STEPS:
        save(root, step)
    return root


def silent(text: str) -> None:
    raise AssertionError(f"nothing was to be said: {text}")
