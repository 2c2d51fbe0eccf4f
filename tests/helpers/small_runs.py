"""Runs of a few steps through the real command, in this process, and what they leave behind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file

from align.cli.main import main

TIMES = (  # differ always
    "tokens_per_second", "memory_mb", "seconds_generate", "seconds_reward", "seconds_score", "seconds_audit",
)  # fmt: skip
TINY: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 512, "tie_word_embeddings": True, "initializer_range": 0.1,
}  # fmt: skip
FRESH = {"config": TINY, "tokenizer_name_or_path": "asset:stories260k"}
BRIEF = {"num_completions": 0}


def train(recipe: str | Path, out: Path, *words: str) -> Path:
    """`align train`, which must succeed; returns the run folder."""
    assert main(["train", str(recipe), f"training.output_dir={out}", *words]) == 0
    return out


def run(out: Path, recipe: Mapping[str, Any], *words: str) -> Path:
    """The recipe as a file beside the run folder, trained."""
    return train(write_recipe(out.with_suffix(".yaml"), recipe), out, *words)


def write_recipe(path: Path, recipe: Mapping[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(dict(recipe), sort_keys=False), encoding="utf-8")
    return path


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def metrics(out: Path) -> list[dict[str, float]]:
    """The lines of metrics.jsonl without what time and place decide."""
    return [{k: v for k, v in line.items() if k not in TIMES} for line in lines(out / "metrics.jsonl")]


def told(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def weights(out: Path) -> dict[str, torch.Tensor]:
    """What stands in final/: the model's weights, or the adapter's."""
    final = out / "final"
    return load_file(next(p for n in ("model", "adapter_model") if (p := final / f"{n}.safetensors").exists()))


def assert_resumes(recipe: str, whole: Path, folder: Path, step: int, *words: str, without: Sequence[str] = ()) -> None:
    """From the checkpoint of that step a copy of the run, `without` some of its parts, ends as the run has."""
    cut = folder / f"cut-{step}"
    shutil.copytree(whole, cut, ignore=shutil.ignore_patterns("final", *without))
    train(recipe, cut, *words, "--resume", str(cut / "checkpoints" / f"step-{step:06d}"))
    assert same(weights(whole), weights(cut)), step
    assert metrics(whole) == metrics(cut), step


def same(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    """Bitwise."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def gap(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> float:
    """The largest difference of any weight."""
    assert one.keys() == other.keys()
    return max((one[name] - other[name]).abs().max().item() for name in one)
