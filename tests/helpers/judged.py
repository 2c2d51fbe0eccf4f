"""Evaluations of a few lines, in memory or in a folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from align.judges.base import Verdict
from align_eval import store
from align_eval.records import Answer, Item, Score


def verdict(item: str, a: str, b: str, score: float | None, order: str = "ab", **other: object) -> Verdict:
    """Of judge J unless said otherwise."""
    why = "" if score is not None else "unreadable"
    given = {"judge": "J", "why": why, **other}
    return Verdict(item=item, models=(a, b), score=score, order=order, **given)  # type: ignore[arg-type]


def both_orders(item: str, a: str, b: str, scores: Sequence[float | None], **other: object) -> list[Verdict]:
    return [verdict(item, a, b, s, o, **other) for s, o in zip(scores, ("ab", "ba"), strict=True)]


def world(strengths: dict[str, float], items: int, seed: int = 0, ties: float = 0.0) -> list[Verdict]:
    """Every two models on every item in both orders, by Bradley-Terry; a share of ties."""
    random = np.random.default_rng(seed)
    names = list(strengths)
    found: list[Verdict] = []
    for item in range(items):
        for i, a in enumerate(names):
            for b in names[i + 1 :]:
                chance = 1 / (1 + np.exp(strengths[b] - strengths[a]))
                scores = [0.5 if random.random() < ties else float(random.random() < chance) for _ in range(2)]
                found += both_orders(f"i{item}", a, b, scores)
    return found


def folder_of(
    folder: Path, verdicts: Sequence[Verdict] = (), scores: Sequence[Score] = (), answers: Sequence[Answer] = ()
) -> Path:
    """With an item of a prompt for each that is named."""
    named = dict.fromkeys(row.item for row in [*verdicts, *scores, *answers])
    store.append_items(folder, [Item(id=name, prompt=f"Prompt {name}") for name in named])
    store.append_verdicts(folder, verdicts)
    store.append_scores(folder, scores)
    store.append_answers(folder, answers)
    return folder


def run_of(folder: Path, rows: Sequence[float]) -> Path:
    """A run whose test split has an accuracy of these rows, and a loss that is told without rows."""
    folder.mkdir()
    (folder / "recipe.yaml").write_text("name: x\nmethod: {name: dpo}\n")
    (folder / "metrics.jsonl").write_text('{"step": 1, "loss": 1.0}\n')
    measured = {"value": sum(rows) / len(rows), "stderr": 0.1, "n": len(rows), "rows": list(rows)}
    (folder / "test.json").write_text(json.dumps({"accuracy": measured, "loss": {"value": 1.0, "stderr": 0.1, "n": 9}}))
    return folder
