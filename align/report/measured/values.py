"""What states were believed to be worth, beside what they were worth: the audits of a run (`rollout.audit`)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from align.report.folder import Audited, Run
from align.report.parts.blocks import Block, Table, figures, note
from align.report.parts.charts import Chart, Series, chart
from align.report.parts.figures import Figure
from align.report.text import exact, said, short

APART = 2.0  # standard errors by which two states must differ to be put in order
EXPLAINED = (
    "A state is what stands before a step of a completion. Its true value is the mean reward of many completions that "
    "begin from it. The error contains that of the truth itself, in the last column. Right order: of two states before "
    "the same step whose true values are surely apart, how often the better one was believed to be better; 50 % is "
    "chance."
)


@dataclass(frozen=True)
class Audit:
    """An experience, or all of a run."""

    states: Sequence[Audited]

    @property
    def error(self) -> float:
        """Mean absolute distance of estimate and truth."""
        return sum(abs(s.estimate - s.value) for s in self.states) / len(self.states)

    @property
    def noise(self) -> float:
        """Mean standard error of the truth."""
        return sum(s.stderr for s in self.states) / len(self.states)

    @property
    def order(self) -> tuple[float, int]:
        """Share of the pairs that can be told apart which the estimates put in the right order, and their number."""
        pairs = list(self._apart())
        right = sum((a.value - b.value) * (a.estimate - b.estimate) > 0 for a, b in pairs)
        return right / max(len(pairs), 1), len(pairs)

    def _apart(self) -> Iterator[tuple[Audited, Audited]]:
        for a, b in combinations(self.states, 2):
            same = (a.step, a.depth) == (b.step, b.depth)
            if same and abs(a.value - b.value) > APART * math.hypot(a.stderr, b.stderr):
                yield a, b


def by_step(run: Run) -> dict[int, Audit]:
    steps = dict.fromkeys(s.step for s in run.values)
    return {step: Audit([s for s in run.values if s.step == step]) for step in steps}


HEAD = ("States", "Mean absolute error", "Right order", "Standard error of the truth")


def values_section(run: Run) -> list[Block]:
    if not run.values:
        return []
    found = list(by_step(run).items())
    rows = [[str(step), *_told(audit)] for step, audit in found]
    rows.append([said("<b>all</b>"), *_told(Audit(run.values))])
    drawn = [_scatter("First audit", found[0][1])]
    drawn += [_scatter("Last audit", found[-1][1])] if len(found) > 1 else []
    return [*figures(drawn), Table(head=["After step", *HEAD], rows=rows), note(EXPLAINED)]


def values_compared(runs: Sequence[Run]) -> list[Block]:
    """A row for each run that was audited; nothing where none was."""
    audited = [(slot, run) for slot, run in enumerate(runs) if run.values]
    if not audited:
        return []
    lines = [
        Series(label=run.name, slot=slot % 8, line=[(step, audit.error) for step, audit in by_step(run).items()])
        for slot, run in audited
    ]
    drawn = chart(Chart(title="Mean absolute error of the values", series=lines, zero=True))
    rows = [[run.name, *_told(Audit(run.values))] for _, run in audited]
    return [*figures([drawn]), Table(head=["Run", *HEAD], rows=rows), note(EXPLAINED)]


def _told(audit: Audit) -> list[str]:
    share, pairs = audit.order
    order = f"{share * 100:.0f} % of {pairs:,}" if pairs else ""
    error, noise = exact(audit.error, short(audit.error)), exact(audit.noise, short(audit.noise))
    return [str(len(audit.states)), error, order, noise]


def _scatter(title: str, audit: Audit) -> Figure:
    dots = [(s.value, s.estimate, None) for s in sorted(audit.states, key=lambda s: s.value)]
    ends = [f(x for s in audit.states for x in (s.value, s.estimate)) for f in (min, max)]
    equal = Series(label="equal", slot=1, line=[(end, end) for end in ends])
    states = Series(label="a state", slot=0, dots=dots, joined=False)
    named = f"{title}: believed against true"
    return chart(Chart(title=named, series=[states, equal], across="true value"))
