"""Results and an evaluation's folder that have something of everything, with names and texts that try to break out."""

from __future__ import annotations

from pathlib import Path

from align.judges.base import Order, Verdict
from align_eval.records import Answer, Item, Score
from align_eval.results.document import (
    Agreement,
    Checkpoint,
    Difference,
    Failure,
    JudgeRow,
    Pair,
    Ranked,
    Results,
    Scored,
    Sections,
)
from align_eval.statistics.estimate import Estimate
from align_eval.store import append_answers, append_items, append_scores, append_verdicts

HOSTILE = '</script><script>window.hacked = 1</script><!-- <img src=x onerror="window.hacked = 2"> \u2028\u202e & "q"'
ORDERS: tuple[Order, Order] = ("ab", "ba")
MODELS = ("org/base", "tuned </title>", "a|b_c%=1")


def of(value: float | None, half: float = 0.1, unit: str = "share", n: int = 40) -> Estimate:
    if value is None:
        return Estimate(value=None, unit=unit, why="no verdicts")
    return Estimate(value=value, low=value - half, high=value + half, n=n, clusters=20, method="Wilson", unit=unit)


def results() -> Results:
    base, tuned, third = MODELS
    board = [
        Ranked(rank=i + 1, model=m, rating=of(1100 - 80 * i, 50, "Elo"), win_rate=of(0.6 - 0.1 * i), n=40,
               tied_with=[tuned, base][i : i + 1] if i < 2 else [], mean_length=of(400 + 90 * i, 30, "characters"))
        for i, m in enumerate((base, tuned, third))
    ]  # fmt: skip
    pairs = [
        Pair(a=a, b=b, judge="judge <b>", category=c, wins=12, ties=3.5, losses=4.5, missing=2, win_rate=of(0.62),
             lc_win_rate=None if c else of(0.55), tests={"sign": 0.00001, "permutation": None}, adjusted={"holm": 0.02},
             detectable=0.09, noise_floor=None if c else of(0.03, 0.01))
        for a, b in ((base, tuned), (base, third), (tuned, third)) for c in ("", "maths", "prose")
    ]  # fmt: skip
    return Results(
        title=f"Models {HOSTILE}",
        command="align-eval leaderboard evals/mine",
        manifest={"version": "1", "seed": 0, "inputs": {"items.jsonl": "ab" * 32}, "judges": {"judge <b>": {"k": 1}}},
        models=[{"name": m} for m in MODELS],
        warnings=["unequal coverage"],
        failures=[Failure(what="verdict", judge="judge <b>", count=2, why="[[9.5]]")],
        sections=Sections(
            leaderboard=board,
            pairs=pairs,
            scores=[Scored(model=m, task="gsm8k", metric="exact", estimate=of(0.4)) for m in MODELS[:2]]
            + [Scored(model=base, task="gsm8k", metric="exact", category="hard", estimate=of(None))],
            differences=[Difference(a=tuned, b=base, task="gsm8k", metric="exact", difference=of(-0.021, 0.013),
                                    tests={"mcnemar": 0.004}, detectable=0.03)],
            judges=[JudgeRow(judge="judge <b>", n=42, missing=2, first_wins=of(0.55), longer_wins=of(0.7),
                             order_agreement=of(None))],
            agreement=[Agreement(a="judge <b>", b="people", kind="Cohen's kappa", estimate=of(0.41, 0.1, ""))],
            frontier=[Checkpoint(run="run", step=s, kl=of(s / 10, 0.5, "nats"), reward=of(s / 99, 0.1, ""),
                                 length=of(200 + s, 9, "tokens")) for s in (0, 10, 20)],
        ),
    )  # fmt: skip


def folder(path: Path, items: int = 30) -> Path:
    """Items whose texts are hostile; the second item's verdicts contradict each other, the third's are missing."""
    append_items(
        path,
        [Item(id=f"item {i}", prompt=f"prompt {i} {HOSTILE}", category=("maths", "prose")[i % 2], reference="42")
         for i in range(items)],
    )  # fmt: skip
    append_answers(
        path, [Answer(item=f"item {i}", model=m, text=f"{m} says {i} {HOSTILE}", stop="eos", num_tokens=7)
               for i in range(items) for m in MODELS if (i, m) != (4, MODELS[1])],
    )  # fmt: skip
    base, tuned, _ = MODELS
    scores = {0: (1.0, 1.0), 1: (1.0, 0.0), 2: (None, None), 3: (0.0, 0.0)}
    append_verdicts(
        path,
        [Verdict(item=f"item {i}", models=(base, tuned), judge="judge <b>", order=order, score=score,
                 why="" if score is not None else "no rating", raw=f"because {i} {HOSTILE}",
                 columns={"grades": [8, 7.5], "flags": ["contradicts its explanation"]} if i == 0 else {})
         for i in range(items) for order, score in zip(ORDERS, scores.get(i, (0.5, 0.5)), strict=True)],
    )  # fmt: skip
    missing = [Score(item="item 0", model=m, metric="gsm8k:exact", score=s, why="" if s else "not read")
               for m, s in ((base, None), (tuned, 1.0))]  # fmt: skip
    several = [Score(item="item 5", model=m, metric="gsm8k:exact", score=s, sample=i)
               for m, scores in ((base, (1.0,)), (tuned, (0.5, 0.0))) for i, s in enumerate(scores)]  # fmt: skip
    append_scores(path, [*missing, *several])
    return path
