"""`align-eval import`: another project's files into an evaluation's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from align.system.terminal import say
from align_eval.commands.export import FORMAT_HELP


def import_(
    format_: Annotated[str, typer.Argument(metavar="FORMAT", help=FORMAT_HELP)],
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="JSON or JSON lines, also .gz, or folders.")],
    into: Annotated[Path, typer.Option("--into", metavar="FOLDER", help="The evaluation's folder, made or added to.")],
    model: Annotated[str, typer.Option(help="The model's name, where the files do not say it (lm_eval).")] = "",
    baseline: Annotated[str, typer.Option(help="The baseline's name, where they do not (Arena-Hard v0.1).")] = "",
) -> None:
    """Adds items, answers, verdicts and scores of another project's files; what is lost on the way is told."""
    from align_eval.formats.base import Names
    from align_eval.formats.moving import bring

    for line in bring(format_, files, into, Names(model=model, baseline=baseline)).lines():
        say(line)
