"""The command `align`. Every command checks first and tells its mistakes in one message, without a traceback.

Exit codes: 0 success; 2 a mistake found before training; 1 a run that failed; 69 one that has lost a process;
75 a run asked to stop, which saved.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from align import __version__
from align.cli.begin import begin
from align.cli.launch import launch
from align.cli.options import OWN_OPTIONS
from align.errors import AlignError, Elsewhere, RunError, UserError, debugging
from align.outside import AskedToEnd, place_of
from align.system.machine import told
from align.system.terminal import Guarded, say
from align.world.here import speaker

app = typer.Typer(
    name="align",
    help="Align language models: preference data and demonstrations in, an aligned model out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(begin)
app.add_typer(launch, name="launch")

RecipeArgument = Annotated[
    str, typer.Argument(metavar="RECIPE", help="A recipe file, a run folder, or a shipped recipe's name.")
]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Such as training.seed=1; null unsets.")
]
Sharding = Literal["ddp", "zero1", "zero2", "zero3", "fsdp2"]
PIPE_WIDTH = 200
PLACE = """KEY=VALUE as of `align check`; --gpus 64, --memory 80 (GB of one), --gpus-per-node 8, --tokens 512 (of a
usual sequence; default: the most that the recipe allows), --device a100|h100|h200, --network 400 (GB a second from a
node to the others), --model-config FILE (config.json of a model that need not be here)."""
GRID = """Such as: align sweep dpo optim.learning_rate=1e-4,3e-4 method.beta=0.1,0.3 training.seed=7. A list is a value
in brackets, one with a comma stands in quotes. --out FOLDER (default: runs/NAME-sweep), --jobs 2 (cells at a time, each
with its share of the GPUs), --processes, --sharding and --offload (of each, as of `align launch local`), --dry-run."""
ALL = "Do what the run does before it loads weights: prepare all data into the cache, fetch, make the models empty."
INTERRUPTED = 130  # what typer makes of a KeyboardInterrupt
TRAINS = ("train", "sweep", "launch")  # commands that leave checkpoints
OF_A_RECIPE = (*TRAINS, "doctor")  # whose memory the keys of a recipe rule


def _version(wanted: bool | None) -> None:
    if wanted:
        say(f"align {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool | None, typer.Option("--version", callback=_version, is_eager=True, help="Print it and stop.")
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Full tracebacks; ALIGN_DEBUG=1 does the same.")] = False,
) -> None:
    if debug:
        os.environ["ALIGN_DEBUG"] = "1"


@app.command()
def train(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    resume: Annotated[
        str, typer.Option(metavar="[auto|PATH]", help="Go on from the last good checkpoint, or from one.")
    ] = "",
    trust_folder: Annotated[bool, typer.Option(help="Write into a run folder that another user owns.")] = False,
    allow_changes: Annotated[
        list[str] | None, typer.Option(help="A key that may differ from the saved run's; or `all`.")
    ] = None,
) -> None:
    """Trains by a recipe: alone, or as a rank of accelerate launch or torchrun."""
    if not resume and allow_changes:
        raise UserError("train: --allow-changes belongs to --resume")
    from align.world.signals import stoppable

    with stoppable() as stop:  # what follows imports for seconds
        from align.recipe.load import load_recipe

        checked = load_recipe(recipe, overrides or [])
        from align.cluster.preflight import preflight
        from align.run import train as run

        again = run.Resume(path=resume, allow=tuple(allow_changes or ())) if resume else None
        with preflight(checked.to_dict()):
            run.train(checked, again, run.Trust(folder=trust_folder), stop)


@app.command()
def check(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    whole: Annotated[bool, typer.Option("--all", help=ALL)] = False,
    sharding: Annotated[Sharding | None, typer.Option(help="Of the run; some recipes cannot have some.")] = None,
) -> None:
    """Tells all mistakes of a recipe at once; else what would run: batches, steps, memory. Loads no weights."""
    from align.cli import check as command
    from align.recipe.load import load_recipe

    command.say(load_recipe(recipe, overrides or []), console(), whole=whole, sharding=sharding or "")


@app.command(context_settings=OWN_OPTIONS, epilog=PLACE)
def plan(context: typer.Context, recipe: RecipeArgument) -> None:
    """Tells what a run takes on given GPUs: memory by part and time of a step, by sharding. Reads no weights."""
    from align.cli import plan as command

    command.run(recipe, context.args, console())


@app.command(context_settings=OWN_OPTIONS, epilog=GRID)
def sweep(
    context: typer.Context,
    recipe: Annotated[str, typer.Argument(metavar="RECIPE KEY=A,B... [KEY=VALUE]... [OPTION]...", help="As train's.")],
) -> None:
    """Runs each combination of values of some keys, and compares the runs on one page. Called again, it goes on."""
    from align.cli import sweep as command

    command.run(recipe, context.args)


@app.command()
def doctor(recipe: RecipeArgument, overrides: Overrides = None) -> None:
    """Looks at the real first batch: template, BOS and EOS, loss mask, policy against reference, layouts."""
    from align.recipe.load import load_recipe

    checked = load_recipe(recipe, overrides or [])
    from align.cli import doctor as command

    command.examine(checked, console())


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.")],
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="FILE.html", help="Default: report.html in the run, or beside them."),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Write it anew while they go on, until they end.")] = False,
) -> None:
    """Writes one self-contained HTML page of a run, or of several side by side."""
    from align.report.watch import report as made

    made(runs, out, say, watch=watch)


@app.command()
def summary(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder whose subfolders are runs.")],
    numbers: Annotated[
        list[str], typer.Argument(metavar="NAME=RUN:METRIC...", help="Such as dpo_accuracy=dpo:accuracy.")
    ],
) -> None:
    """Writes the numbers that a pipeline was made for, from its runs' test splits, into FOLDER/summary.json."""
    from align.report import pipeline

    path = pipeline.summarise(folder, numbers)
    say(f"{path}:")
    for line in pipeline.lines(path):
        say(f"  {line}")


def console() -> Guarded:
    """The terminal as wide as it is; a pipe or a file wide enough that nothing is broken into pieces."""
    out = Guarded()
    return out if out.is_terminal else Guarded(width=PIPE_WIDTH)


# ---- exit codes -----------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code."""
    return run_app(app, _with_resume(list(sys.argv[1:] if arguments is None else arguments)))


def run_app(commands: typer.Typer, words: list[str]) -> int:
    """Runs a command; what the user can mend becomes one message and an exit code, a defect keeps its traceback."""
    try:
        result = commands(words, standalone_mode=False)
        if result == INTERRUPTED:
            raise KeyboardInterrupt
        return result if isinstance(result, int) else 0
    except typer.Abort:
        return _tell(RunError("stopped by the keyboard; a run keeps its last checkpoint"))
    except AlignError as error:
        return _tell(error)
    except KeyboardInterrupt:
        return _tell(RunError("stopped by the keyboard; a run keeps its last checkpoint"))
    except SystemExit as error:  # of code that is not ours: a method's, a library's
        if isinstance(error.__context__, BrokenPipeError):  # typer's answer to it
            return _unheard()
        if "_ALIGN_COMPLETE" in os.environ:  # a shell asks what there is
            return int(error.code or 0)
        return _tell(RunError(f"not finished: {place_of(AskedToEnd.by(error))}"))
    except BrokenPipeError:
        return _unheard()
    except Exception as error:
        show = getattr(error, "show", None)  # typer's own: a wrong option, a missing argument
        if show is not None:
            from align.translate.hints import of_option

            show()
            return _tell(UserError(hint)) if (hint := of_option(error)) else 2
        command = next((word for word in words if not word.startswith("-")), "")
        if (want := told(error, trains=command in TRAINS, of_a_recipe=command in OF_A_RECIPE)) is None:
            raise
        want.__cause__ = error
        return _tell(want)


def _unheard() -> int:
    """Nobody reads any more, as behind `| head`: no failure."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains at its end
    return 0


def _with_resume(words: list[str]) -> list[str]:
    """`--resume` may stand alone, which typer cannot say; then it means auto."""
    out: list[str] = []
    for position, word in enumerate(words):
        out.append(word)
        following = words[position + 1] if position + 1 < len(words) else ""
        if word == "--resume" and not (following == "auto" or _looks_like_folder(following)):
            out.append("auto")
    return out


def _looks_like_folder(word: str) -> bool:
    path = "/" in word and "=" not in word and not word.endswith((".yaml", ".yml"))
    return path or (bool(word) and "=" not in word and Path(word).is_dir())


def _tell(error: AlignError) -> int:
    """One message. Under a launcher a user's mistake is the same on every rank of a machine: the first speaks."""
    if debugging():
        say("".join(traceback.format_exception(error)), file=sys.stderr, end="")
    if isinstance(error, Elsewhere):
        return error.exit_code
    if os.environ.get("LOCAL_RANK", "0") == "0" or isinstance(error, RunError):
        gap = "\n" if "\n" in str(error) else " "
        say(f"{speaker()}:{gap}{error}", file=sys.stderr)
    return error.exit_code
