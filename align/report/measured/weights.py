"""Weights of sources that a run has learned: over the steps, at its end, and on what they rest."""

from __future__ import annotations

from align.report.folder import Run
from align.report.parts.bars import stacked
from align.report.parts.blocks import Block, Table, figures, note
from align.report.parts.charts import Chart, Series, chart
from align.report.text import exact, short

WEIGHTS = "weights/"  # of a metric: the weight of one source
COUNT = "effective_sources"
EXPLAINED = (
    "Weights are those that each step was made with; they add up to 100 %. The effective number of sources is exp(H): "
    "as many sources of equal weight would be as mixed. The gap is the loss of a source under the policy, which also "
    "learns from the trusted rows, less that under its twin, which does not: the larger it is, the more a source "
    "stands against them."
)


def learned_weights(run: Run) -> dict[str, str]:
    """Source -> the metric of its weight."""
    return {key.removeprefix(WEIGHTS): key for key in run.metrics() if key.startswith(WEIGHTS) and run.curve(key)}


def weights_section(run: Run) -> list[Block]:
    found = learned_weights(run)
    if not found or len({len(run.curve(key)) for key in found.values()}) > 1:
        return []
    shares = [Series(label=name, slot=i, line=run.curve(key)) for i, (name, key) in enumerate(found.items())]
    drawn = [stacked("Weights of the sources", shares)]
    if count := run.curve(COUNT):
        series = [Series(label=COUNT, slot=0, line=count)]
        drawn.append(chart(Chart(title="Effective number of sources", series=series, guide=(len(found), "all alike"))))
    rows = [[name, *_weighed(run, name, key)] for name, key in found.items()]
    head = ["Source", "Weight", "Gap of its loss, last quarter"]
    return [*figures(drawn), Table(head=head, rows=rows), note(EXPLAINED)]


def _weighed(run: Run, name: str, key: str) -> list[str]:
    weight = run.curve(key)[-1][1]
    gaps = gaps_of(run, name)
    mean = sum(gaps) / len(gaps) if gaps else None
    return [exact(weight, f"{100 * weight:.1f} %"), "" if mean is None else exact(mean, short(mean))]


def gaps_of(run: Run, name: str) -> list[float]:
    """Loss under the policy less that under the twin, in the last quarter of the steps that had such rows."""
    twin = dict(run.curve(f"twin/{name}"))
    both = [value - twin[step] for step, value in run.curve(f"sources/{name}") if step in twin]
    return both[-max(1, len(both) // 4) :] if both else []
