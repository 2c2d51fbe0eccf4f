"""Studies are made of cells: runs that are kept once they have ended, so that a study that was cut goes on."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any


def pool(jobs: int) -> ProcessPoolExecutor:
    """Processes of one thread each, without a network."""
    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"))


def every(cell: Callable[..., Any], given: Sequence[tuple[Any, ...]], jobs: int) -> list[Any]:
    """`cell(*arguments)` for each of `given`, in their order."""
    with pool(jobs) as workers:
        return list(workers.map(cell, *zip(*given, strict=True)))


def align_train(*words: str) -> None:
    """`align train`, from where it was."""
    from align.cli.main import main

    if main(["train", *words, "--resume"]):
        raise RuntimeError(f"failed: align train {' '.join(words)}")
