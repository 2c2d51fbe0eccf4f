"""How often the 95 % intervals of `align-eval` hold the truth, and how often its gates open by chance.

    make study-eval    (python -m tests.bench.eval_study [--folder FOLDER] [--jobs N])

Worlds whose truth is known are drawn again and again, and go through the functions that the commands use.

    win rate        prompts of different difficulty, both orders of showing, a judge that likes the first answer, ties
    length control  a judge that likes length, answers that are longer; two games of a prompt are mostly the same
    Bradley-Terry   five models, every two on every prompt, twice; the ratings of all five
    pass@k          pass@4 of 8 samples, problems from hopeless to easy
    gate            50 checkpoints that are no better answer the same prompts: plain and anytime-valid

A cell that has ended is kept in FOLDER, so a study that was cut goes on; the summary is written beside this file, and
the tables to STUDIES.md.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy import special

from tests.bench.cases import REPOSITORY
from tests.bench.cells import every

SUMMARY = Path(__file__).parent / "eval_study.json"
SIZES = (100, 300, 1000, 2000)
FAST, SLOW = 4000, {100: 1000, 300: 1000, 1000: 500, 2000: 500}  # worlds drawn, without a bootstrap in each and with
WORLDS = {
    "win rate": ("even", "70 %", "95 %"),
    "length control": ("longer", "much longer"),
    "Bradley-Terry": ("near", "far"),
    "pass@k": ("hard", "easy"),
}
TRUE = {"even": "50 %", "70 %": "66 %", "95 %": "94 %"}  # what these worlds come to; their names seed the draws
GATES = (("no better", 0.0), ("better by 0.1", 0.1), ("better by 0.2", 0.2))
LOOKS, PROMPTS, SEQUENCES = 50, 500, 2000
COPIED = 0.6  # chance that a prompt's second game ends like its first


def main() -> None:
    parser = argparse.ArgumentParser(description="Coverage of intervals, and false alarms of gates.")
    parser.add_argument("--folder", type=Path, default=REPOSITORY / "runs" / "study_eval")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes of one thread each")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    found = every(run, [(*cell, given.folder.absolute()) for cell in all_cells()], given.jobs)
    SUMMARY.write_text("[\n " + ",\n ".join(json.dumps(cell) for cell in found) + "\n]\n", encoding="utf-8")
    from tests.bench.online_study import read as cells_of_online
    from tests.bench.online_study import write_tables

    write_tables(cells_of_online())


def all_cells() -> list[tuple[str, str, int]]:
    """Number, world, prompts."""
    coverage = [(number, world, n) for number, worlds in WORLDS.items() for world in worlds for n in SIZES]
    return [*coverage, *(("gate", name, PROMPTS) for name, _ in GATES)]


def run(number: str, world: str, n: int, folder: Path) -> dict[str, Any]:
    place = folder / f"{number}-{world}-{n}.json".replace(" ", "_").replace("%", "")
    if place.exists():
        return json.loads(place.read_text(encoding="utf-8"))
    random = np.random.default_rng([n, *f"{number} {world}".encode()])
    found = gate(world, n, random) if number == "gate" else coverage(number, world, n, random)
    found = {"number": number, "world": world, "n": n, **found}
    place.write_text(json.dumps(found), encoding="utf-8")
    return found


Draw = Callable[[str, int, np.random.Generator], tuple[list[tuple[float, float]], list[float]]]


def coverage(number: str, world: str, n: int, random: np.random.Generator) -> dict[str, Any]:
    """Share of intervals that hold the truth, in worlds drawn anew; their standard error and mean width."""
    draw: Draw = {
        "win rate": _win_rate, "length control": _length, "Bradley-Terry": _ratings, "pass@k": _pass,
    }[number]  # fmt: skip
    held: list[float] = []
    width: list[float] = []
    for _ in range(SLOW[n] if number in ("length control", "Bradley-Terry") else FAST):
        ends, truths = draw(world, n, random)
        held.append(float(np.mean([low <= t <= high for (low, high), t in zip(ends, truths, strict=True)])))
        width.append(float(np.mean([high - low for low, high in ends])))
    return {
        "held": round(float(np.mean(held)), 5), "stderr": round(float(np.std(held)) / math.sqrt(len(held)), 5),
        "width": round(float(np.mean(width)), 5), "worlds": len(held),
    }  # fmt: skip


def _win_rate(world: str, n: int, random: np.random.Generator) -> tuple[list[tuple[float, float]], list[float]]:
    from align_eval.statistics.shares import share

    centre, ties, bias = {"even": 0.0, "70 %": 1.05, "95 %": 3.75}[world], 0.1 if world != "95 %" else 0.0, 0.5
    points, weights = np.polynomial.hermite_e.hermegauss(80)
    spread = 1.5
    both = (special.expit(centre + spread * points + bias) + special.expit(centre + spread * points - bias)) / 2
    truth = ties / 2 + (1 - ties) * float(weights @ both / weights.sum())
    logits = centre + spread * random.normal(size=n)
    games = [
        np.where(random.random(n) < ties, 0.5, random.random(n) < special.expit(logits + side))
        for side in (bias, -bias)
    ]
    found = share(np.mean(games, axis=0))
    return [_ends(found)], [truth]


def _twice(chances: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The mean of two games, of which the second mostly ends like the first."""
    first, second = ((random.random(chances.shape) < chances).astype(float) for _ in range(2))
    return (first + np.where(random.random(chances.shape) < COPIED, first, second)) / 2


def _length(world: str, n: int, random: np.random.Generator) -> tuple[list[tuple[float, float]], list[float]]:
    from align_eval.statistics.length_control import Lengths, controlled

    shift, intercept, slope = {"longer": (-0.5, -0.3, -0.7), "much longer": (-1.0, -0.6, -1.2)}[world]
    gap = shift + random.normal(size=n)  # in standard deviations; the fit does not know how long one is
    wins = _twice(special.expit(intercept + slope * np.tanh(gap)), random)
    found = controlled(Lengths(preferences=wins, model=1000 - 250 * gap, baseline=np.full(n, 1000.0)))
    return [_ends(found.estimate)], [float(special.expit(intercept))]


def _ratings(world: str, n: int, random: np.random.Generator) -> tuple[list[tuple[float, float]], list[float]]:
    from align_eval.analysis.ratings import Games, fitted
    from align_eval.statistics.resampling import USUAL

    strengths = np.linspace(1, -1, 5) * {"near": 0.4, "far": 1.2}[world]
    first, second = (np.tile(side, n) for side in np.triu_indices(5, 1))
    won = _twice(special.expit(strengths[first] - strengths[second]), random)
    games = Games(
        models=[f"m{i}" for i in range(5)], items=[str(i) for i in range(n)], item=np.repeat(np.arange(n), 10),
        first=first, second=second, won=won, tied=np.zeros(len(won)), counts=np.full(len(won), 2.0), plain=True,
    )  # fmt: skip
    found = fitted(games, USUAL)
    low, high = np.percentile(found.resampled, games.tails(0.95), axis=0)
    return list(zip(low.tolist(), high.tolist(), strict=True)), strengths.tolist()


def _pass(world: str, n: int, random: np.random.Generator) -> tuple[list[tuple[float, float]], list[float]]:
    from align_eval.statistics.samples import pass_at_k
    from align_eval.statistics.shares import share

    a, b = {"hard": (0.2, 2.0), "easy": (1.5, 0.6)}[world]
    right = random.binomial(8, random.beta(a, b, size=n))
    table = np.array([pass_at_k(8, c, 4) for c in range(9)])
    return [_ends(share(table[right]))], [float(1 - special.beta(a, b + 4) / special.beta(a, b))]


def _ends(found: Any) -> tuple[float, float]:
    return (found.low, found.high) if found.low is not None else (math.nan, math.nan)


def gate(world: str, n: int, random: np.random.Generator) -> dict[str, Any]:
    """Share of sequences of 50 looks in which a gate ever opens: plain at every look, and anytime-valid."""
    from align_eval.statistics.sequential import log_evidence, log_needed
    from align_eval.statistics.shares import share

    better = dict(GATES)[world]
    counts = {"plain": 0, "anytime": 0, "first": 0, "last": 0}
    for _ in range(SEQUENCES):
        same = random.random(n)  # what all checkpoints share of a prompt
        opened = {"plain": False, "anytime": False}
        for k in range(1, LOOKS + 1):
            luck = np.where(random.random(n) < COPIED, same, random.random(n))
            values = np.where(luck < 0.2, 0.5, np.where(luck < 0.2 + 0.8 * (0.5 + better / 1.6), 1.0, 0.0))
            plain = share(values).low
            opened["plain"] |= plain is not None and plain > 0.5
            passed = log_evidence(2 * values - 1, 0.0) >= log_needed(k)
            opened["anytime"] |= passed
            counts["first"] += passed and k == 1
            counts["last"] += passed and k == LOOKS
        for name, ever in opened.items():
            counts[name] += ever
    return {"sequences": SEQUENCES, "looks": LOOKS, **{k: round(v / SEQUENCES, 5) for k, v in counts.items()}}


# ---- tables ---------------------------------------------------------------------------------------------------------


def summary() -> list[dict[str, Any]]:
    return json.loads(SUMMARY.read_text(encoding="utf-8")) if SUMMARY.exists() else []


def section() -> str:
    """For STUDIES.md; empty where the study has not been made."""
    found = summary()
    if not found:
        return ""
    head = (
        "\n## Intervals\n\nMade by `make study-eval`: how often the 95 % intervals of `align-eval` hold the truth, in "
        "worlds where it is known;\nper cent, with the standard error of that. Win rates and pass@k: Agresti-Coull "
        "over prompts; length control and\nratings: the expanded percentile bootstrap over them, 1,000 resamples. "
        f"{FAST:,} worlds a cell; with a bootstrap {SLOW[100]:,},\nand {SLOW[1000]} from 1,000 prompts on.\n\n"
    )
    return head + coverage_table(found) + "\n" + gate_text(found)


def coverage_table(found: list[dict[str, Any]]) -> str:
    lines = [f"| number | world | {' | '.join(f'{n} prompts' for n in SIZES)} |", "|" + "---|" * (2 + len(SIZES))]
    cells = {(c["number"], c["world"], c["n"]): c for c in found if c["number"] != "gate"}
    for number, worlds in WORLDS.items():
        for world in worlds:
            here = [cells[number, world, n] for n in SIZES]
            told = " | ".join(f"{c['held'] * 100:.1f} ± {c['stderr'] * 100:.1f}" for c in here)
            lines.append(f"| {number} | {TRUE.get(world, world)} | {told} |")
    return "\n".join(lines) + "\n"


def gate_text(found: list[dict[str, Any]]) -> str:
    cells = {c["world"]: c for c in found if c["number"] == "gate"}
    lines = [
        f"A gate `delta > 0 at 95%` asked of {LOOKS} checkpoints one after the other, {PROMPTS} prompts that all of "
        "them answer; share of\nsequences in which it ever opens, and in which it opens at one look:\n",
        "| checkpoints are | `--gate` ever | `--gate-sequence` ever | at look 1 | at look 50 |",
        "|" + "---|" * 5,
    ]
    for name, _ in GATES:
        told = " | ".join(f"{cells[name][key] * 100:.1f} %" for key in ("plain", "anytime", "first", "last"))
        lines.append(f"| {name} | {told} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
