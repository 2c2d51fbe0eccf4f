"""`align-eval frontier`: what runs earn at which divergence from their reference."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from align.system.terminal import say


def frontier(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders of methods whose policy writes.")],
    reward: Annotated[str, typer.Option(metavar="METRIC", help="Such as rewards/NAME for one of several.")] = "reward",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FOLDER", help="Write results.json and tables there.")
    ] = None,
) -> None:
    """Sets reward against KL and length over the evaluations of runs; where several overlap, at equal KL."""
    from align_eval.analysis.frontier import frontier as of_runs
    from align_eval.analysis.telling import of_frontier
    from align_eval.analysis.writing import put_runs
    from align_eval.results.reading import ready
    from align_eval.statistics.resampling import USUAL

    if out is not None:
        ready(out)
    found = of_runs(runs, reward)
    for line in of_frontier(found):
        say(line)
    if out is not None:
        say(f"written: {put_runs(out, found.sections(), runs, USUAL, found.warnings)}")
