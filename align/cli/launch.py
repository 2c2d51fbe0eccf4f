"""`align launch`: runs on this machine, and under Slurm. Options are the fields of `LocalRun` and of `SlurmJob`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from align.cli.options import OWN_OPTIONS, options_of
from align.errors import UserError
from align.system.terminal import say

launch = typer.Typer(
    help="Runs on this machine or under Slurm; tells how a job goes and what went wrong; ends it.", no_args_is_help=True
)
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder that `launch slurm` has made.")]
OPTIONS = """Options of the job: --nodes 2, --gpus-per-node 8 (a rank for each), --ranks-per-node 1 (without GPUs),
--sharding ddp|zero1|zero2|zero3|fsdp2, --offload optimizer|param (into the main memory), --time 12:00:00,
--partition gpu, --array 0-4 (seeds, a run for each),
--after JOB, --warning 120 (seconds before the time limit), --max-requeues 50, --prelude 'module load cuda',
--container 'apptainer exec --nv image.sif', --preflight 120 (seconds; 0: none), --patience 1800 (seconds without
progress), --grace 120 (seconds for ranks when one has ended), --launcher srun|torchrun|accelerate,
--vllm-nodes 1 (further nodes, for vLLM servers) or
--vllm-gpus-per-node 2 (of --gpus-per-node, for them), --vllm-servers-per-node 1,
--sbatch account=physics (or any other option of sbatch)."""
HERE = """Options: --processes 2 (ranks; default: as many as there are GPUs), --sharding ddp|zero1|zero2|zero3|fsdp2,
--offload optimizer|param (into the main memory),
--resume (or --resume PATH), --allow-changes KEY (with it, as of `align train`)."""
LAST = 40  # lines of a log


@launch.command(context_settings=OWN_OPTIONS, epilog=OPTIONS)
def slurm(
    context: typer.Context,
    recipe: Annotated[str, typer.Argument(metavar="RECIPE [KEY=VALUE]... [OPTION]...", help="As `align train`'s.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the script, and submit nothing.")] = False,
) -> None:
    """Submits a recipe. The script, the resolved recipe and the code as it is now are kept in the run's launch/."""
    from align.cli import check
    from align.cli.main import console
    from align.cluster import submission
    from align.cluster.settings import SlurmJob

    job, overrides = options_of(context.args, SlurmJob)
    checked, made = submission.prepare(recipe, overrides, job)
    if dry_run:
        say(made.text, end="")
        return
    check.say(checked, console(), sharding=job.sharding)
    made = submission.submit(recipe, overrides, job)
    say(f"job {made.number} is submitted: {made.script}")
    run = made.script.parents[1]
    say(f"look at it: align launch status {run}; its log: align launch logs {run}")


@launch.command(context_settings=OWN_OPTIONS, epilog=HERE)
def local(
    context: typer.Context,
    recipe: Annotated[str, typer.Argument(metavar="RECIPE [KEY=VALUE]... [OPTION]...", help="As `align train`'s.")],
) -> None:
    """Runs a recipe on this machine, with a rank for each GPU. Ctrl-C stops all of them after the step, saved."""
    import torch

    from align.cluster import local as ranks
    from align.recipe.load import load_recipe
    from align.recipe.sharding import refuse_sharding

    run, overrides = options_of(context.args, ranks.LocalRun)
    gpus = torch.cuda.device_count()
    checked = load_recipe(recipe, overrides, world_size=run.ranks(gpus))  # a mistake is told once, not by every rank
    refuse_sharding(checked, run.sharding)
    if code := ranks.launch([recipe, *overrides], run, gpus):
        raise typer.Exit(code)


@launch.command()
def pipeline(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A YAML file of stages (launch/README.md).")],
    changes: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Of every run.")] = None,
    folder: Annotated[str, typer.Option(help="Of all stages; default: the file's, or runs/ and its name.")] = "",
    here: Annotated[bool, typer.Option("--local", help="Run the stages on this machine, one by one.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the scripts, and submit nothing.")] = False,
) -> None:
    """Submits stages that follow each other, as jobs. Called again, it goes on at the first that has not ended."""
    import torch

    from align.cluster import pipelines
    from align.cluster.stages import read_pipeline

    read = read_pipeline(file, changes or [], folder)
    if dry_run:
        for one in pipelines.prepare(read):
            say(f"#### {one.stage.name}, after {', '.join(one.stage.after) or 'nothing'}\n{one.made.text}", end="")
    elif here:
        if code := pipelines.run_here(read, torch.cuda.device_count()):
            raise typer.Exit(code)
    else:
        for stage, number in pipelines.submit(read):
            say(f"{stage.name}: {f'job {number} is submitted' if number else 'has ended well already'}")
        say(f"look at them: align launch status {read.folder}; end them: align launch cancel {read.folder}")


@launch.command()
def status(run: RunArgument) -> None:
    """Tells what Slurm says of the run's last job, or of each stage of a pipeline."""
    from align.cluster import pipelines
    from align.cluster import slurm as commands
    from align.cluster.submission import jobs_of

    if pipelines.is_pipeline(run):
        for line in pipelines.status(run):
            say(line)
        return

    number = jobs_of(run)[-1]["job"]
    found = commands.states(number)
    for state in found:
        say(state.text)
    if not found:
        say(f"job {number}: Slurm no longer knows it; its log: align launch logs {run}")


@launch.command()
def logs(
    run: RunArgument,
    attempt: Annotated[int, typer.Option(help="All of one; 0: the end of the last.", min=0)] = 0,
) -> None:
    """Prints the end of the job's log, or all of one of its attempts."""
    from align.cluster.logs import logs_of, parts_of
    from align.cluster.submission import jobs_of

    number = jobs_of(run)[-1]["job"]
    found = logs_of(run, number)
    if not found:
        say(f"job {number}: has no log yet; it has not begun (align launch status {run})")
    for log in found:
        parts = parts_of(log)
        asked = [part for part in parts if part.number == attempt] if attempt else parts[-1:]
        if not asked:
            raise UserError(f"{log}: has no attempt {attempt}; there are {', '.join(str(p.number) for p in parts)}")
        say(f"==> {log}")
        for line in asked[0].lines[0 if attempt else -LAST :]:
            say(line)


@launch.command()
def doctor(run: RunArgument) -> None:
    """Tells which rank stopped where on which node, and what to do: from heartbeats, stacks, the log, and Slurm."""
    from align.cluster.doctor import examine

    for line in examine(run):
        say(line)


@launch.command()
def cancel(run: RunArgument) -> None:
    """Ends the job, or all of a pipeline; the ranks save what they have and it does not come back."""
    from align.cluster import pipelines
    from align.cluster import slurm as commands
    from align.cluster.submission import jobs_of

    if pipelines.is_pipeline(run):
        for line in pipelines.cancel(run):
            say(line)
        return

    number = jobs_of(run)[-1]["job"]
    commands.cancel(number)
    say(f"job {number} is cancelled; go on later with sbatch {run}/launch/job.sh")
