"""How fast an evaluation is worked out, and how large and how fast its page is: `python -m tests.bench.eval_speed`.

Two worlds that are drawn from a seed. A leaderboard of 50,000 verdicts, 20 models on 2,600 prompts in both orders, with
1,000 bootstraps over prompts: to be under 30 seconds on two cores. A page of 20,000 items, two models, 40,000 verdicts
with what the judge wrote: to be under 15 MB and to open in under 3 seconds in headless Chromium, where there is one. It
is open when the first item stands in the browser of items; the time is this process's, from asking for the page on.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from align.judges.base import Verdict
from align.system.terminal import say
from align_eval.analysis.evaluation import evaluation_of
from align_eval.analysis.leaderboard import BoardSettings, leaderboard
from align_eval.page.write import report as write_page
from align_eval.records import Answer, Item
from align_eval.results.document import Pair, Results, Sections
from align_eval.results.reading import write
from align_eval.statistics.resampling import Resampling
from align_eval.statistics.shares import share
from align_eval.store import append_answers, append_items, append_verdicts
from tests.helpers.browser import PROGRAM, Browser

WORDS = 8_000  # different ones, drawn as in natural language: the k-th with a weight of 1 / k


def timed(work: Callable[[], Any]) -> tuple[Any, str]:
    """What it returns, and how long it took: on the clock, and of the processors' time."""
    start, busy = time.perf_counter(), time.process_time()
    found = work()
    return found, f"{time.perf_counter() - start:.1f} s ({time.process_time() - busy:.1f} s of processor time)"


def games(folder: Path, prompts: int, models: int, pairs: int, seed: int) -> None:
    """Verdicts of a judge in both orders on `pairs` pairs of each prompt."""
    random = np.random.default_rng(seed)
    strengths = random.normal(0, 1, models)
    names = [f"model-{i}" for i in range(models)]
    append_items(folder, [Item(id=f"p{i}", prompt=f"prompt {i}") for i in range(prompts)])
    verdicts: list[Verdict] = []
    for i in range(prompts):
        for _ in range(pairs):
            a, b = sorted(random.choice(models, 2, replace=False))
            ease = random.normal(0, 0.5)
            for order in ("ab", "ba"):
                chance = 1 / (1 + np.exp(-(strengths[a] - strengths[b] + ease)))
                score = float(random.choice([1.0, 0.5, 0.0], p=[0.85 * chance, 0.15, 0.85 * (1 - chance)]))
                verdicts.append(Verdict(item=f"p{i}", models=(names[a], names[b]), judge="j", order=order, score=score))
    unique = {(v.item, v.models, v.order): v for v in verdicts}
    append_verdicts(folder, list(unique.values()))


def texts(folder: Path, items: int, seed: int) -> None:
    """Answers of two models and a judge's verdicts in both orders, of the lengths of a chat's."""
    random = np.random.default_rng(seed)
    known = ["".join(random.choice(list("etaoinshrdlu"), random.integers(2, 9))) for _ in range(WORDS)]
    weights = 1 / np.arange(1, WORDS + 1)

    def said(mean: int) -> str:
        drawn = random.choice(WORDS, max(3, int(random.gamma(2, mean / 2))), p=weights / weights.sum())
        return " ".join(known[i] for i in drawn)

    names = ("before", "after")
    append_items(folder, [Item(id=f"i{i}", prompt=said(40), category=f"c{i % 8}") for i in range(items)])
    append_answers(folder, [Answer(item=f"i{i}", model=m, text=said(180)) for i in range(items) for m in names])
    scores = random.choice([0.0, 0.5, 1.0], (items, 2))
    verdicts = [
        Verdict(item=f"i{i}", models=names, judge="judge", order=order, score=float(scores[i, k]), raw=said(70))
        for i in range(items) for k, order in enumerate(("ab", "ba"))
    ]  # fmt: skip
    append_verdicts(folder, verdicts)
    rate = share(scores.mean(1))
    pair = Pair(a="before", b="after", judge="judge", wins=1, ties=0, losses=1, win_rate=rate)
    named = [{"name": n} for n in names]
    write(folder, Results(title=f"{items:,} items", models=named, sections=Sections(pairs=[pair])))


def opened(page: Path) -> list[float]:
    """Seconds from asking for the page until its first item is there, cold and then three times more."""
    with Browser() as browser:
        browser.look()
        return [browser.open(page) for _ in range(4)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--prompts", type=int, default=2_600)
    parser.add_argument("--keep", type=Path, help="a folder for both evaluations")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        games(folder / "games", given.prompts, 20, 10, 0)
        source, reading = timed(lambda: evaluation_of(folder / "games"))
        board, took = timed(lambda: leaderboard(source, settings=BoardSettings(how=Resampling(num=1000))))
        say(f"leaderboard: {len(source.verdicts):,} verdicts, {len(board.rows)} models, 1,000 resamples: "
            f"{took}, and {reading} to read them")  # fmt: skip
        texts(folder / "texts", given.items, 1)
        page, took = timed(lambda: write_page(folder / "texts"))
        say(f"page: {given.items:,} items, {page.stat().st_size / 1e6:.1f} MB, written in {took}")
        if PROGRAM:
            cold, *warm = opened(page)
            say(f"opens in {cold:.2f} s, then in {min(warm):.2f} to {max(warm):.2f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
