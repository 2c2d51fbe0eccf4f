"""What a checkpoint's files hold: state as torch loads it with weights_only=True.

Nothing here opens a pickle that could run code: `load_state` takes tensors, numbers, strings, lists, tuples and dicts.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from align.errors import RunError
from align.system.files import create


def save_state(state: Any, path: Path) -> None:
    """Optimiser states, counters, random states: nested dicts, lists and tuples of tensors, numbers and strings."""
    with create(path) as out, _uncounted():  # a file of ours: torch's own writer hides the reason why a write failed
        torch.save(state, out)


@contextmanager
def _uncounted() -> Iterator[None]:
    """Without a checksum of torch's own, which takes most of the time of writing: the manifest has a better one."""
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        yield
    finally:
        torch.serialization.set_crc32_options(before)


def load_state(path: Path) -> Any:
    """What `save_state` wrote, on the CPU; of large tensors what is used is read. Raises RunError naming the file."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises half a dozen kinds, all of them about this file
        raise RunError(f"{path}: cannot be loaded: {type(error).__name__}: {error}") from error


def seed_generators(seed: int) -> None:
    """Python's, numpy's and torch's, of this process."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def random_state() -> dict[str, Any]:
    """The generators of python, numpy, torch and, once it is in use, this process's GPU."""
    version, words, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state()
    assert kind == "MT19937"
    assert isinstance(keys, np.ndarray)
    state: dict[str, Any] = {
        "python": (version, words, gauss),
        "numpy": (torch.from_numpy(keys.astype(np.int64)), int(position), int(has_gauss), float(cached)),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # the others' contexts would cost memory on every GPU
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: Mapping[str, Any]) -> None:
    """Puts back what `random_state` gave, also after a trip through a file."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
