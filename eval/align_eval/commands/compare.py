"""`align-eval compare`: the test metrics of two runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from align.system.terminal import say


def compare(
    before: Annotated[Path, typer.Argument(metavar="BEFORE", help="A run folder.")],
    after: Annotated[Path, typer.Argument(metavar="AFTER", help="Another, tested on the same rows.")],
) -> None:
    """The test metrics of two runs, their differences and standard errors; row by row where both have the same rows."""
    from align_eval.metrics_of_runs import compare_runs

    for line in compare_runs(before, after):
        say(line)
