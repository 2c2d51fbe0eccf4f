r"""A large model read by two ranks: what each of them holds at most, as the kernel counts it.

    accelerate launch --config_file launch/accelerate/zero3.yaml --num_processes 2 \
        tests/distributed/reading.py FOLDER 512

DS_ACCELERATOR=cpu stands before it on CPUs, ACCELERATE_USE_CPU=true with fsdp2.yaml.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from align.models.load import load_policy
from align.models.settings import ModelSection
from align.models.sources import ASSETS, whole_weights
from align.models.tokenizer import load_tokenizer
from align.scoring.score import Kernel, Scorer
from align.world import distributed
from align.world.distributed import World
from align.world.shards import divided

HIDDEN, LAYERS = 384, 24  # 227 MB in float32; with 512 403 MB


def make(folder: Path, hidden: int = HIDDEN) -> None:
    """Random weights, in four files."""
    config = AutoConfig.for_model(
        "llama", vocab_size=512, hidden_size=hidden, intermediate_size=4 * hidden, num_hidden_layers=LAYERS,
        num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=64, tie_word_embeddings=True,
    )  # fmt: skip
    with whole_weights():
        model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder, max_shard_size=4 * sum(p.numel() for p in model.parameters()) // 4)


def look(world: World, folder: Path) -> dict[str, int]:
    """Bytes of the model, and what this rank held at most while it came, over what it held before."""
    section = ModelSection(model_name_or_path=str(folder), tokenizer_name_or_path=str(ASSETS / "stories260k"))
    tokenizer = load_tokenizer(section, "lm")
    _read(world, section, tokenizer, ASSETS / "stories260k")  # whatever is imported and started only once
    before = _settled()
    scorer = _read(world, section, tokenizer, folder)
    peak = _status("VmHWM") - before
    size = sum(getattr(p, "ds_numel", p.numel()) * p.element_size() for p in scorer.parameters())
    return {"bytes": size, "peak": peak, "kept": _status("VmRSS") - before}


def _read(world: World, section: ModelSection, tokenizer: Any, folder: Path) -> Any:
    model = load_policy(replace(section, model_name_or_path=str(folder)), tokenizer, "lm", Path(), "hollow")
    return divided(Scorer(model, Kernel("sdpa")), world)


def _settled() -> int:
    """What this process holds, when it has given back what it can; its peak is counted from here on."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


if __name__ == "__main__":
    torch.set_num_threads(1)
    world, place = distributed.join(1.0), Path(sys.argv[1])
    with world.main_first():
        if world.main:
            make(place, int(sys.argv[2]))
    told = world.everyone(look(world, place))
    for rank, found in enumerate(told if world.main else ()):
        share = found["bytes"] / world.size
        print(f"{world.sharding} rank {rank}: share {share / 1e6:.0f} MB, at most {found['peak'] / 1e6:.0f} MB "
              f"({found['peak'] / share:.2f}), kept {found['kept'] / 1e6:.0f} MB")  # fmt: skip
    world.barrier()
