"""`align-eval export`: an evaluation as another project's files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from align.system.terminal import say

FORMAT_HELP = "alpaca_eval, arena_hard, inspect_ai, lm_eval, mt_bench, or rows (of this project's own records)."


def export(
    format_: Annotated[str, typer.Argument(metavar="FORMAT", help=FORMAT_HELP)],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="An evaluation's folder.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Where to.")],
) -> None:
    """Writes an evaluation as another project's files; what they have no place for is told."""
    from align_eval.formats.moving import take_out

    for line in take_out(format_, folder, out).lines():
        say(line)
