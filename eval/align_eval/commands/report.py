"""`align-eval report`: the page of an evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from align.system.terminal import say


def report(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="An evaluation's folder, with results.json.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Where to; FOLDER/report.html otherwise.")
    ] = None,
) -> None:
    """Writes one self-contained HTML page: all numbers with their intervals, and every item with its verdicts."""
    from align_eval.page import write

    say(write.report(folder, out))
