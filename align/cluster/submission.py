"""A job's part of the run folder: `launch/` has the script, the recipe, the code as it was, and the number of the job.

What is edited after the submission does not change a job that waits. The recipe is kept as it was resolved, with the
run folder's whole path; data and models are named in it as they were, and are read when the job runs.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import align
from align.cluster import slurm
from align.cluster.script import Places, script
from align.cluster.settings import SlurmJob
from align.errors import UserError
from align.methods.base import OnlineMethod
from align.recipe.load import Recipe, load_recipe
from align.recipe.sharding import refuse_sharding
from align.rollout.vllm.placed import refuse_lists
from align.runfolder.folder import RunFolder
from align.system.files import copy_file, replace_file
from align.system.lines import append_lines

FOLDER = "launch"  # in the run folder
JOBS = "jobs.jsonl"  # a line for each submission


@dataclasses.dataclass(frozen=True)
class Submitted:
    """What there is of a job."""

    script: Path
    text: str
    number: str = ""  # empty: not submitted


def prepare(recipe: str, overrides: Sequence[str], job: SlurmJob) -> tuple[Recipe, Submitted]:
    """The script as it would be submitted; nothing is written. Mistakes as `align check` finds them."""
    if job.array and any(word.startswith("training.seed=") for word in overrides):
        raise UserError("training.seed: is another one for each run of --array; leave it out")
    checked = load_recipe(recipe, overrides, world_size=job.num_ranks)
    return checked, job_of(checked, job)


def job_of(checked: Recipe, job: SlurmJob) -> Submitted:
    """The script of a recipe's job. UserError where its recipe cannot have it so."""
    refuse_sharding(checked, job.sharding)
    check_servers(checked, job)
    run = Path(checked.training.output_dir).absolute()
    folder = run / FOLDER
    places = Places(
        script=folder / "job.sh", run=run, code=folder / "code", recipe=folder / "recipe.yaml", cwd=Path.cwd(),
        python=Path(sys.executable),
    )  # fmt: skip
    for path in (places.script, places.cwd, places.python):
        if shlex.quote(str(path)) != str(path):
            raise UserError(f"{path}: has characters that a shell takes for its own; give the folder a plain name")
    return Submitted(places.script, script(checked.name or run.name, job, places))


def check_servers(recipe: Recipe, job: SlurmJob) -> None:
    """UserError where the job has places for servers that the run would not use, or the run wants one and has none."""
    rollout, wanted = recipe.rollout, isinstance(recipe.method, OnlineMethod) and recipe.rollout.engine == "vllm"
    if job.num_servers and not wanted:
        raise UserError(
            "--vllm-nodes, --vllm-gpus-per-node: are places for vLLM servers, and the recipe does not write with one; "
            "set rollout.engine=vllm, or leave the option out"
        )
    if job.num_servers:
        refuse_lists(rollout)
    elif wanted and job.nodes > 1 and not rollout.server_urls:
        raise UserError(
            "rollout.engine: vllm: ranks on several nodes need a server that all reach; give the job places for some "
            "(--vllm-nodes 1, or --vllm-gpus-per-node 1), or name one that runs (rollout.vllm_server_base_url)"
        )


def submit(recipe: str, overrides: Sequence[str], job: SlurmJob) -> Submitted:
    """Writes `launch/` and submits."""
    checked, made = prepare(recipe, overrides, job)
    run = made.script.parents[1]
    if RunFolder(run).used:
        raise UserError(
            f"{run}: holds a run already; choose another training.output_dir, or go on with it: sbatch {made.script}"
        )
    if job.after and not slurm.states(job.after):  # which Slurm takes for one that has ended well
        raise UserError(f"--after {job.after}: Slurm knows no such job; leave the option out if it has ended well")
    training = dataclasses.replace(checked.training, output_dir=str(run))
    write(made, dataclasses.replace(checked, training=training).to_yaml())
    return dataclasses.replace(made, number=queue(made))


def write(made: Submitted, recipe: str) -> None:
    """All that the job will read of `launch/`. Without a recipe it has commands, perhaps of `align-eval`."""
    folder = made.script.parent
    folder.mkdir(parents=True, exist_ok=True)
    if recipe:
        replace_file(folder / "recipe.yaml", recipe)
    _keep_code(folder / "code", evaluation=not recipe)
    replace_file(made.script, made.text)


def queue(made: Submitted, *options: str) -> str:
    """Submits the script, and notes the number of the job."""
    number = slurm.submit(made.script, *options)
    line = {"job": number, "submitted": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
    append_lines(made.script.parent / JOBS, [line])
    return number


def jobs_of(run: Path) -> list[dict[str, Any]]:
    """The submissions of a run folder, the last one last. UserError where there is none."""
    path = run / FOLDER / JOBS
    if not path.is_file():
        raise UserError(f"{path}: is not there; `align launch slurm RECIPE` writes it when it submits")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _keep_code(folder: Path, *, evaluation: bool = False) -> None:
    """This package, that of evaluations where it is asked for, and the files of Python in the working folder, of which
    rewards and methods may be."""
    if folder.exists():
        shutil.rmtree(folder)
    here, packages = Path.cwd(), [Path(align.__file__).parent]
    if evaluation and (found := find_spec("align_eval")) and found.origin:
        packages.append(Path(found.origin).parent)
    inside = [(p.parent, file) for p in packages for file in p.rglob("*") if "__pycache__" not in file.parts]
    for root, file in (*inside, *((here, file) for file in here.glob("*.py"))):
        if not file.is_file():
            continue
        place = folder / file.relative_to(root)
        place.parent.mkdir(parents=True, exist_ok=True)
        copy_file(file, place)
