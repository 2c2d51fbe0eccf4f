"""`align train` in this process, alone on one thread and in silence: for instruments that look at what it does."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path

ALONE = {
    "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1", "DO_NOT_TRACK": "1",
}  # fmt: skip
SHOWN = 3000  # characters of what a run that failed has said last


def settle() -> None:
    """One thread, no GPU, no network. Call it before torch or anything of ours is imported."""
    os.environ |= ALONE
    import torch

    torch.set_num_threads(1)


def train(recipe: str, out: Path, *words: str) -> Path:
    """The run folder. RuntimeError, with what was said last, where the run does not succeed."""
    from align.cli.main import main

    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = main(["train", recipe, f"training.output_dir={out}", *words])
    if code:
        raise RuntimeError(f"{said.getvalue()[-SHOWN:]}\nfailed: align train {recipe} {' '.join(words)}")
    return out
