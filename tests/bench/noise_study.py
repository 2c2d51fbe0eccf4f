"""Ten sources with rising corruption: does `scalebio` find what each of them is worth?

    python -m tests.bench.noise_study [--folder FOLDER] [--seeds N] [key=value ...]

The answers of source i = 0 .. 9 are replaced by "." with probability min(1, 2i/10), by draws of this file, so that the
last five are noise alone; the trusted rows are as they were. The sources are a tenth each of the polite answers that
ship with the package, the model is the shipped one. What is asked for: a mean weight of the noise sources below half of
a tenth, and a rank correlation of weight and noise below -0.9 (-0.937 is the least there is: five noises are equal).
A rate of 0.15 for the logits moves them as far in sixty steps as 1e-2 does in a thousand.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from align.assets import asset

SOURCES = 10
NOISE = tuple(min(1.0, 2 * i / 10) for i in range(SOURCES))
SETTINGS: dict[str, Any] = {
    "method": {"name": "scalebio", "alpha": 10.0, "weights_rate": 0.15, "trusted_rows": 16},
    "model": {"model_name_or_path": "asset:stories260k"},
    "optim": {"learning_rate": 2e-3, "weight_decay": 5e-4, "warmup_ratio": 0.03},
    "training": {"batch_size": 40, "max_steps": 60},
    "logging": {"num_completions": 0, "logging_steps": 20},
}


def rows_of(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in asset(f"asset:polite_pairs/{name}.jsonl").read_text("utf-8").splitlines()]


def corrupted(folder: Path, seed: int, *, per_source: int = 0) -> dict[str, Any]:
    """The section `data`; its files are written into the folder. `per_source`: rows of each at most; 0: all."""
    draw, rows = random.Random(seed), rows_of("train")
    draw.shuffle(rows)
    train: list[dict[str, str]] = []
    for i, noise in enumerate(NOISE):
        own = rows[i::SOURCES][: per_source or None]
        made = [{**row, "chosen": "." if draw.random() < noise else row["chosen"]} for row in own]
        train.append({"source": _write(folder / f"tenth_{i}.jsonl", made)})
    held_out = rows_of("test")
    return {
        "train": train, "trusted": _write(folder / "trusted.jsonl", held_out[:60]),
        "test": _write(folder / "test.jsonl", held_out[60:]),
        "columns": {"prompt": "{instruction}\n{input}", "completion": "chosen"}, "max_length": 512,
    }  # fmt: skip


def _write(path: Path, rows: Sequence[dict[str, str]]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def judged(weights: Sequence[float]) -> dict[str, float]:
    """What is asked for: `noise` as a multiple of the weight where all are alike, `spearman` with the noise."""
    noisy = [w for w, noise in zip(weights, NOISE, strict=True) if noise == 1]
    return {"noise": sum(noisy) / len(noisy) * SOURCES, "spearman": spearman(weights, NOISE)}


def spearman(one: Sequence[float], other: Sequence[float]) -> float:
    """The correlation of ranks; equal values have the mean of theirs."""
    return float(np.corrcoef([_ranks(values) for values in (one, other)])[0, 1])


def _ranks(values: Sequence[float]) -> list[float]:
    return [sum(v < value for v in values) + (values.count(value) - 1) / 2 for value in list(values)]


def main() -> None:
    from tests.bench.own_process import settle, train

    parser = argparse.ArgumentParser(prog="python -m tests.bench.noise_study", description="Ten sources, rising noise.")
    parser.add_argument("--folder", type=Path, default=Path("runs/study_noise"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("words", nargs="*", metavar="key=value")
    given = parser.parse_args()
    settle()
    for seed in range(given.seeds):
        home = given.folder / f"seed-{seed}"
        recipe = {**SETTINGS, "data": corrupted(home / "data", seed)}
        recipe["training"] = {**SETTINGS["training"], "seed": seed}
        (home / "recipe.yaml").write_text(json.dumps(recipe), encoding="utf-8")
        train(str(home / "recipe.yaml"), home / "run", *given.words)
        found = json.loads((home / "run" / "sources.json").read_text(encoding="utf-8"))
        weights = [one["weight"] for one in found["sources"]]
        told = ", ".join(f"{name} {value:.3f}" for name, value in judged(weights).items())
        print(f"seed {seed}: {told}; weights {' '.join(f'{w:.3f}' for w in weights)}", flush=True)


if __name__ == "__main__":
    main()
