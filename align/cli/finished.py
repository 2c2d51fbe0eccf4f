"""Commands for a model that is there: it is exported, or talked to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from align.errors import UserError
from align.system.terminal import say

finished = typer.Typer()
Dtype = Literal["bfloat16", "float16", "float32"]


@finished.command()
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, or one of its checkpoints.")],
    out: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to make.")],
    dtype: Annotated[Dtype | None, typer.Option(help="Default: that of the model which training began with.")] = None,
    push_to_hub: Annotated[str, typer.Option(metavar="NAME", help="And put it on the hub under this name.")] = "",
    private: Annotated[bool, typer.Option("--private", help="In a repository that others do not see.")] = False,
) -> None:
    """A merged, plain transformers folder, reloaded and compared before it counts as done."""
    if private and not push_to_hub:
        raise UserError("export: --private belongs to --push-to-hub")
    if not run.is_dir():
        raise UserError(f"{run}: no such folder; give a run's, or a model's")
    from align.models import save
    from align.run import export as of_checkpoint
    from align.run import hub
    from align.runfolder.checkpoint import is_checkpoint

    if push_to_hub:
        hub.refuse(push_to_hub)
    make = of_checkpoint.export if is_checkpoint(run) else save.export
    say(f"{out}: {make(run, out, dtype or '')}")
    if push_to_hub:
        say(f"on the hub: {hub.push(out, push_to_hub, private=private or None)}")


@finished.command()
def chat(
    model: Annotated[
        str, typer.Argument(metavar="MODEL|RUN", help="A model folder, hub name, asset:NAME, run or checkpoint.")
    ],
    max_new_tokens: Annotated[int, typer.Option(help="Of one answer.", min=1)] = 256,
    temperature: Annotated[float, typer.Option(help="0 always takes the likeliest token.", min=0.0)] = 0.8,
    seed: Annotated[int, typer.Option(help="Of the sampling.")] = 0,
    system: Annotated[str, typer.Option(help="A system message, for models with a chat template.")] = "",
) -> None:
    """Talk to a model. Lines from a pipe are answered one after the other."""
    from align.cli import chat as command

    command.run(model, command.Style(max_new_tokens=max_new_tokens, temperature=temperature, seed=seed, system=system))
