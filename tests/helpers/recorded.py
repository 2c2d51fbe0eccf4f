"""Recorded verdicts of real models, cut down to their numbers, as files that `align-eval import` reads."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

DATA = Path(__file__).parents[1] / "align_eval" / "data"
SIDES = {"a": 1.0, "b": 0.0, "t": 0.5}


def data(name: str) -> Any:
    return json.loads(gzip.decompress((DATA / f"{name}.json.gz").read_bytes()))


def lines(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def arena_bench(folder: Path) -> Path:
    """Grades of 15 models on 300 prompts, as Arena-Hard keeps grades."""
    return lines(
        folder / "arena_bench.jsonl",
        (
            {"question_id": f"q{i}", "model": model, "judge": "gpt-4", "games": [{"score": score, "judgment": ""}]}
            for model, scores in data("arena_bench").items()
            for i, score in enumerate(scores)
        ),
    )


def mt_bench(folder: Path) -> list[Path]:
    """Grades of 12 models on 80 questions of two turns, as FastChat keeps them."""
    found = data("mt_bench")
    asked = (
        {"question_id": 81 + i, "category": category, "turns": [f"first {i}", f"second {i}"]}
        for i, category in enumerate(found["categories"])
    )
    said = (
        {"question_id": 81 + i, "model": model, "judge": ["gpt-4-0613", "single-v1"], "score": score, "turn": turn,
         "judgment": ""}
        for model, scores in found["scores"].items()
        for i, both in enumerate(scores)
        for turn, score in enumerate(both, start=1)
    )  # fmt: skip
    return [lines(folder / "question.jsonl", asked), lines(folder / "gpt-4_single.jsonl", said)]


def vicuna_pairs(folder: Path) -> list[Path]:
    """Both answers' grades by one judge, the first model of each pairing shown first."""
    found = data("vicuna_pairs")
    items = ({"id": str(i), "prompt": f"question {i}", "category": c} for i, c in enumerate(found["categories"]))
    verdicts = (
        {"item": str(i), "models": names.split(), "judge": "gpt-4", "order": "ab",
         "score": 1.0 if a > b else 0.0 if a < b else 0.5, "columns": {"grades": [a, b]}}
        for names, grades in found["grades"].items()
        for i, (a, b) in enumerate(grades)
    )  # fmt: skip
    return [lines(folder / "items.jsonl", items), lines(folder / "verdicts.jsonl", verdicts)]


def pandalm(folder: Path) -> Path:
    """Three people and two judges on 999 pairs, and the majority of the people; AlpacaEval's annotations."""
    found = data("pandalm")
    said = dict(found["verdicts"])
    people = [said[name] for name in said if name.startswith("human")]
    said["people"] = "".join(max("abt", key=each.count) for each in map("".join, zip(*people, strict=True)))
    return lines(
        folder / "annotations.jsonl",
        (
            {"instruction": f"pair {i}", "generator_1": names.split()[0], "generator_2": names.split()[1],
             "output_1": "one", "output_2": "two", "annotator": judge,
             "preference": None if said[judge][i] == "-" else 2 - SIDES[said[judge][i]]}
            for judge in said
            for i, names in enumerate(found["pairs"])
        ),
    )  # fmt: skip


def llmbar(folder: Path) -> list[Path]:
    """Two judges on 419 pairs in both orders, and the gold label as a third judge."""
    found = data("llmbar")
    verdicts = (
        {"item": f"i{i}", "models": ["output_1", "output_2"], "judge": judge, "order": order,
         "score": 1.0 if winner == "1" else 0.0}
        for judge, said in found["winners"].items()
        for order, name in (("ab", "straight"), ("ba", "swapped"))
        for i, winner in enumerate(said[name])
    )  # fmt: skip
    gold = (
        {"item": f"i{i}", "models": ["output_1", "output_2"], "judge": "gold", "score": 1.0 if label == "1" else 0.0}
        for i, label in enumerate(found["gold"])
    )
    items = ({"id": f"i{i}", "prompt": f"pair {i}", "category": s} for i, s in enumerate(found["subsets"]))
    made = (("items", items), ("verdicts", verdicts), ("gold", gold))
    return [lines(folder / f"{name}.jsonl", rows) for name, rows in made]
