"""Proximal SFT beside SFT over long training on few demonstrations, each from three seeds.

    make study-psft    (python -m tests.bench.psft_study [--folder FOLDER] [--jobs N])

The recipes `psft` and `sft`, for 25 passes over 200 demonstrations at a constant rate: the recipes' own, and a tenth of
it (the authors give PSFT a twentieth of SFT's rate, and part of what they gain may come of that alone). Told are, on
held-out demonstrations, the negative log-likelihood at its best and at the end and the entropy at the end; and what is
left of what the model could do before: the log-likelihood of openings of stories, none of which it was trained on.

A run that has ended is kept in FOLDER, so a study that was cut goes on; the summary is written beside this file, and
the table to STUDIES.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.bench.cases import REPOSITORY
from tests.bench.cells import align_train, every

SUMMARY = Path(__file__).parent / "psft_study.json"
SEEDS = (0, 1, 2)
METHODS = ("sft", "psft")
RATES = ("2e-3", "2e-4")
LONG = (
    "data.num_rows=200", "data.validation=asset:polite_pairs/test.jsonl", "data.test=0", "training.num_train_epochs=25",
    "optim.lr_scheduler_type=constant_with_warmup", "optim.warmup_ratio=0", "optim.warmup_steps=10",
    "training.eval_steps=24", "training.save_steps=120", "logging.num_completions=0",
)  # fmt: skip
BOOK = REPOSITORY / "align" / "assets" / "story_openings" / "test.jsonl"
BASE = REPOSITORY / "align" / "assets" / "stories260k"


def main() -> None:
    parser = argparse.ArgumentParser(description="PSFT beside SFT over long training, three seeds each.")
    parser.add_argument("--folder", type=Path, default=REPOSITORY / "runs" / "study_psft")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes of one thread each")
    given = parser.parse_args()
    cells = [(m, rate, seed, given.folder.absolute()) for rate in RATES for m in METHODS for seed in SEEDS]
    found = {"before": stories(BASE), "cells": every(run, cells, given.jobs)}
    lines = ",\n  ".join(json.dumps(cell) for cell in found["cells"])
    SUMMARY.write_text(f'{{"before": {found["before"]},\n "cells": [\n  {lines}\n]}}\n')
    from tests.bench.online_study import read, write_tables

    write_tables(read())


def run(method: str, rate: str, seed: int, folder: Path) -> dict[str, Any]:
    place = folder / f"{method}-{rate}-{seed}"
    align_train(
        method, *LONG, f"optim.learning_rate={rate}", f"training.seed={seed}", f"training.output_dir={place}"
    )
    rows = [json.loads(line) for line in (place / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    told = [row for row in rows if "eval/entropy" in row]
    nll = [row["eval/nll" if method == "psft" else "eval/loss"] for row in told]
    return {
        "method": method, "rate": rate, "seed": seed, "steps": rows[-1]["step"], "best_nll": min(nll),
        "best_step": told[nll.index(min(nll))]["step"], "nll": nll[-1], "entropy": told[-1]["eval/entropy"],
        "stories": stories(place / "final"),
    }  # fmt: skip


def stories(model: Path) -> float:
    """Mean negative log-likelihood of a token (nats) of openings of stories, each after its first token."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    policy, tokenizer = AutoModelForCausalLM.from_pretrained(model), AutoTokenizer.from_pretrained(BASE)
    total, count = 0.0, 0
    with torch.no_grad():
        for line in BOOK.read_text(encoding="utf-8").splitlines():
            tokens = tokenizer(json.loads(line)["prompt"], return_tensors="pt")["input_ids"]
            total += float(policy(tokens, labels=tokens).loss) * (tokens.shape[1] - 1)
            count += tokens.shape[1] - 1
    return total / count


def summary() -> dict[str, Any]:
    return json.loads(SUMMARY.read_text(encoding="utf-8")) if SUMMARY.exists() else {}


def section() -> str:
    """For STUDIES.md; empty where the study has not been made."""
    found = summary()
    if not found:
        return ""
    head = (
        "\n## Proximal SFT\n\nMade by `make study-psft`: the recipes `sft` and `psft` for 25 passes over 200 rows "
        "at a constant rate, seeds\n0, 1 and 2. NLL and entropy (nats a token) are of held-out demonstrations; stories "
        "is the NLL of openings of stories,\nwhich the model knew before and was not trained on. What the paper claims "
        "for the clip, more entropy and less\nforgotten, does not show at this size; a smaller rate does it.\n\n"
    )
    return head + table(found)


def table(found: dict[str, Any]) -> str:
    """A line for each method and rate: means over the seeds with their standard errors."""
    from tests.bench.online_study import spread

    lines = ["| method | rate | best NLL | NLL at the end | entropy | stories | steps | seeds |", "|" + "---|" * 8]
    lines.append(f"| before training | | | | | {found['before']:.3f} | | |")

    def line(method: str, rate: str, cells: Sequence[dict[str, Any]]) -> str:
        told = " | ".join(spread([c[key] for c in cells]) for key in ("best_nll", "nll", "entropy", "stories"))
        return f"| `{method}` | {rate} | {told} | {statistics.fmean(c['steps'] for c in cells):.0f} | {len(cells)} |"

    for rate in RATES:
        for method in METHODS:
            lines.append(line(method, rate, [c for c in found["cells"] if (c["method"], c["rate"]) == (method, rate)]))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
