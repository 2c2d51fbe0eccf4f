"""Commands by which one begins: `align translate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

begin = typer.Typer()


@begin.command(context_settings={"ignore_unknown_options": True})
def translate(
    words: Annotated[list[str], typer.Argument(metavar="FILE | -- COMMAND...", help="A config, a script, a command.")],
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="RECIPE.yaml", help="Default: printed.")] = None,
    project: Annotated[
        str, typer.Option("--from", help="trl, handbook, open_r1, axolotl, llama_factory, openrlhf.")
    ] = "",
    trainer: Annotated[str, typer.Option(help="Such as dpo, where the original does not say.")] = "",
    processes: Annotated[int, typer.Option(help="That train, where the original does not say.", min=0)] = 0,
    lossy: Annotated[bool, typer.Option("--lossy", help="Also where something of it is not offered here.")] = False,
) -> None:
    """A recipe of a config or command line of TRL, alignment-handbook, open-r1, axolotl, LLaMA-Factory or OpenRLHF."""
    from align.cli import translate as command

    command.run(words, command.Wishes(out, project, trainer, processes, lossy))
