"""Rounds of writing, judging and learning, one line each: what was written, what came of it, how far it went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from align.report.folder import Run
from align.report.headline import told
from align.report.measures import Measure
from align.report.parts.blocks import Block, Table, figures, note
from align.report.parts.charts import Chart, Series, chart
from align.report.parts.figures import Figure
from align.report.text import exact, short

OVER = "num_rounds"  # told with the first step of each round: how many there were before
EXPLAINED = (
    "What is held out was answered greedily by the solution of each round; what was written, which pairs were learned "
    "from and the evaluation stand in rounds/. Prompts whose completions earned the same make no pair. The KL is that "
    "from the policy that wrote the round to its last step."
)


@dataclass(frozen=True)
class Round:
    """The steps of one, both ends among them."""

    number: int
    first: float
    last: float

    def of(self, run: Run, key: str) -> list[float]:
        return [value for step, value in run.curve(key) if self.first <= step <= self.last]

    def held_out(self, run: Run, key: str) -> Measure | None:
        """At its end; None where it has not ended, or nothing is held out."""
        return next((m for step, m in reversed(run.evaluations(key)) if self.first <= step <= self.last), None)


def rounds_of(run: Run) -> list[Round]:
    begun = list(run.curve(OVER))
    ends = [*(step - 1 for step, _ in begun[1:]), float(run.last_step)][: len(begun)]
    return [Round(int(number) + 1, step, end) for (step, number), end in zip(begun, ends, strict=True)]


def rounds_section(run: Run) -> list[Block]:
    found = rounds_of(run)
    if not found:
        return []
    columns = {
        "Round": [str(r.number) for r in found],
        "Steps": [f"{r.first:.0f} to {r.last:.0f}" for r in found],
        "Reward written": [_first(r.of(run, "reward")) for r in found],
        "Reward held out": [_measured(r.held_out(run, "reward"), "reward") for r in found],
        "Tokens written": [_first(r.of(run, "completion_length")) for r in found],
        "Tokens held out": [_measured(r.held_out(run, "completion_length"), "completion_length") for r in found],
        "Prompts without a pair": [_first(r.of(run, "equal_groups"), share=True) for r in found],
        "KL, nats a token": [_first(r.of(run, "approx_kl")[-1:]) for r in found],
        "Beta": [_first(r.of(run, "beta")) for r in found],
        "Learning rate": [_first([max(r.of(run, "learning_rate"), default=0.0)]) for r in found],
    }
    shown = {name: cells for name, cells in columns.items() if any(cells)}
    rows = [list(cells) for cells in zip(*shown.values(), strict=True)]
    return [*figures(_drawn(run, found)), Table(head=list(shown), rows=rows), note(EXPLAINED)]


def _drawn(run: Run, found: Sequence[Round]) -> list[Figure]:
    held_out = [(r.number, m.value, m.stderr) for r in found if (m := r.held_out(run, "reward"))]
    written = [(r.number, of[0], None) for r in found if (of := r.of(run, "reward"))]
    series = [Series(label="written in the round", slot=0, dots=written)] if written else []
    series += [Series(label="held out, at its end ± standard error", slot=1, dots=held_out)] if held_out else []
    return [chart(Chart(title="Reward by round", series=series, across="round"))] if series else []


def _first(values: Sequence[float], *, share: bool = False) -> str:
    if not values:
        return ""
    return exact(values[0], f"{100 * values[0]:.0f} %" if share else short(values[0]))


def _measured(found: Measure | None, key: str) -> str:
    return told(found, key) if found else ""
