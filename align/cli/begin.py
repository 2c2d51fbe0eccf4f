"""Commands by which one begins: what methods there are, a recipe of one's own, a look at the rows that it names; and
those for a model that is there: it is exported, or talked to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from align.errors import UserError, near_path
from align.system.terminal import say

begin = typer.Typer()
Dtype = Literal["bfloat16", "float16", "float32"]


@begin.command(context_settings={"ignore_unknown_options": True})
def translate(
    words: Annotated[list[str], typer.Argument(metavar="FILE | -- COMMAND...", help="A config, a script, a command.")],
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="RECIPE.yaml", help="Default: printed.")] = None,
    project: Annotated[
        str, typer.Option("--from", help="trl, handbook, open_r1, axolotl, llama_factory, openrlhf.")
    ] = "",
    trainer: Annotated[str, typer.Option(help="The trainer, such as dpo, where the original does not say.")] = "",
    processes: Annotated[int, typer.Option(help="Processes, where the original does not say.", min=0)] = 0,
    lossy: Annotated[bool, typer.Option("--lossy", help="Also where a key of it is not offered here.")] = False,
) -> None:
    """Makes a recipe of a config or command of TRL, alignment-handbook, open-r1, axolotl, LLaMA-Factory or OpenRLHF."""
    from align.cli import translate as command

    command.run(words, command.Wishes(out, project, trainer, processes, lossy))


@begin.command()
def init(
    name: Annotated[str, typer.Argument(metavar="METHOD", help="A method, or another shipped recipe.")],
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="RECIPE.yaml", help="Default: printed.")] = None,
) -> None:
    """Writes a method's shipped recipe, with a comment on every line, to a file of your own."""
    from align.cli import init as command

    command.write(name, out)


@begin.command()
def data(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe file, a run folder, or a shipped recipe.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...")] = None,
    split: Annotated[str, typer.Option(help="train, validation, test or trusted.")] = "train",
    row: Annotated[int, typer.Option(help="The first row of that split that is shown, counted from 1.", min=1)] = 1,
    count: Annotated[int, typer.Option(help="How many rows are shown.", min=1)] = 3,
) -> None:
    """Shows rows as the model will see them: tokens, which of them are learned, lengths. Reads no weights."""
    from align.cli import data as command
    from align.cli.main import console
    from align.recipe.load import load_recipe

    checked = load_recipe(recipe, overrides or [])
    command.show(checked, console(), split=split, first=row, count=count)


@begin.command()
def methods(
    name: Annotated[str, typer.Argument(help="One method's page.")] = "",
    markdown: Annotated[bool, typer.Option("--markdown", help="The README's table.")] = False,
    json: Annotated[bool, typer.Option("--json", help="The same for programs.")] = False,
    write: Annotated[
        bool, typer.Option("--write", help="With --markdown: into README.md here, and for this command.")
    ] = False,
) -> None:
    """Lists the methods: what each needs, its paper, its recipe."""
    from align.cli import methods as command
    from align.cli.main import console

    if sum((bool(name), markdown, json)) > 1:
        raise UserError("methods: NAME, --markdown and --json exclude each other")
    if write and not markdown:
        raise UserError("methods: --write goes with --markdown, whose table it puts into README.md")
    if write:
        from align.cli.entries import write_table

        say(write_table())
        say(command.write_markdown(Path("README.md")))
    elif name:
        command.say_one(name, console())
    elif markdown or json:
        say(command.as_markdown() if markdown else command.as_json() + "\n", end="")
    else:
        command.say_all(console())


# ---- a model that is there -------------------------------------------------------------------------------------------


@begin.command()
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, or one of its checkpoints.")],
    out: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to make.")],
    dtype: Annotated[Dtype | None, typer.Option(help="Default: that of the model which training began with.")] = None,
    push_to_hub: Annotated[str, typer.Option(metavar="NAME", help="And put it on the hub under this name.")] = "",
    private: Annotated[bool, typer.Option("--private", help="In a repository that others do not see.")] = False,
) -> None:
    """Writes a plain transformers folder, adapters merged; reads it again and compares before it counts as done."""
    if private and not push_to_hub:
        raise UserError("export: --private belongs to --push-to-hub")
    if not run.is_dir():
        raise UserError(f"{run}: no such folder; give a run's, or a model's{near_path(run)}")
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


@begin.command()
def chat(
    model: Annotated[
        str, typer.Argument(metavar="MODEL|RUN", help="A model folder, hub name, asset:NAME, run or checkpoint.")
    ],
    max_new_tokens: Annotated[int, typer.Option(help="The most tokens of one answer.", min=1)] = 256,
    temperature: Annotated[float, typer.Option(help="0 always takes the likeliest token.", min=0.0)] = 0.8,
    seed: Annotated[int, typer.Option(help="Of the sampling.")] = 0,
    system: Annotated[str, typer.Option(help="A system message, for models with a chat template.")] = "",
) -> None:
    """Talks with a model. Lines from a pipe are answered one after the other."""
    from align.cli import chat as command

    command.run(model, command.Style(max_new_tokens=max_new_tokens, temperature=temperature, seed=seed, system=system))
