"""The command `align-eval`. Exit codes are those of `align`: 0 success, 2 the user's mistake, 1 a failure; and 3 where
a gate of `compare` or `checkpoints` is not met: nothing went wrong, and what was asked for is not shown; 4 where some
of what was asked for could not be had, and 75 where a budget is spent: the same command goes on."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from align import __version__
from align.cli.main import run_app
from align.system.terminal import say
from align_eval.commands.checkpoints import checkpoints
from align_eval.commands.compare import compare
from align_eval.commands.doctor import doctor
from align_eval.commands.export import export
from align_eval.commands.frontier import frontier
from align_eval.commands.generate import generate
from align_eval.commands.harness import harness
from align_eval.commands.import_ import import_
from align_eval.commands.inspect import inspect
from align_eval.commands.judge import judge
from align_eval.commands.leaderboard import leaderboard
from align_eval.commands.report import report
from align_eval.commands.reward import reward
from align_eval.commands.run import run
from align_eval.commands.style import style

app = typer.Typer(
    name="align-eval",
    help="Evaluate aligned models: did training help, and how sure is that.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool | None) -> None:
    if wanted:
        say(f"align-eval {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool | None, typer.Option("--version", callback=_version, is_eager=True, help="Print it and stop.")
    ] = None,
) -> None:
    """Options before a command."""


app.command()(compare)
app.command("import")(import_)
app.command()(export)
app.command()(checkpoints)
app.command()(doctor)
app.command()(frontier)
app.command()(generate)
app.command()(harness)
app.command()(inspect)
app.command()(judge)
app.command()(leaderboard)
app.command()(report)
app.command()(reward)
app.command()(run)
app.command()(style)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code."""
    return run_app(app, list(sys.argv[1:] if arguments is None else arguments))


if __name__ == "__main__":
    sys.exit(main())
