"""An evaluation's folder that `align-eval judge` has judged by the server of `judging_server`, and what is right."""

from __future__ import annotations

from pathlib import Path

from judging_server import JudgingServer

from align_eval.cli import main
from align_eval.records import Answer, Item
from align_eval.store import append_answers, append_items, read_verdicts

COUNT = 12


def evaluation(folder: Path, **texts: list[str]) -> Path:
    """Of a model for each keyword, whose names get a `/`; a None is no answer."""
    count = max(map(len, texts.values()))
    append_items(folder, [Item(id=f"q{i}", prompt=f"Question {i}?", reference="yes") for i in range(count)])
    told = [(i, f"org/{m}", t) for m, answers in texts.items() for i, t in enumerate(answers) if t is not None]
    append_answers(folder, [Answer(item=f"q{i}", model=m, text=t) for i, m, t in told])
    return folder


def usual(folder: Path) -> Path:
    return evaluation(folder, a=["x" * i for i in range(COUNT)], b=["y" * 5] * COUNT)


def command(folder: Path, server: JudgingServer, *words: str) -> int:
    return main(["judge", str(folder), "--judge", "http:judge-1", "--base-url", server.url, *words])


def scores(folder: Path) -> dict[tuple[str, str, int], float | None]:
    return {(v.item, v.order, v.repeat): v.score for v in read_verdicts(folder)}


RIGHT = {(f"q{i}", order, 0): float(i > 5) if i != 5 else 0.5 for i in range(COUNT) for order in ("ab", "ba")}
