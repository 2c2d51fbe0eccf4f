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
from pathlib import Path
from typing import Any

import align
from align.cluster import slurm
from align.cluster.script import Places, script
from align.cluster.settings import SlurmJob
from align.errors import UserError
from align.recipe.load import Recipe, load_recipe
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
    checked = load_recipe(recipe, overrides, world_size=job.num_ranks)
    run = Path(checked.training.output_dir).absolute()
    folder = run / FOLDER
    places = Places(
        script=folder / "job.sh", run=run, code=folder / "code", recipe=folder / "recipe.yaml", cwd=Path.cwd(),
        python=Path(sys.executable),
    )  # fmt: skip
    for path in (places.script, places.cwd, places.python):
        if shlex.quote(str(path)) != str(path):
            raise UserError(f"{path}: has characters that a shell takes for its own; give the folder a plain name")
    return checked, Submitted(places.script, script(checked.name or run.name, job, places))


def submit(recipe: str, overrides: Sequence[str], job: SlurmJob) -> Submitted:
    """Writes `launch/` and submits."""
    checked, made = prepare(recipe, overrides, job)
    run, folder = made.script.parents[1], made.script.parent
    if RunFolder(run).used:
        raise UserError(
            f"{run}: holds a run already; choose another training.output_dir, or go on with it: sbatch {made.script}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    training = dataclasses.replace(checked.training, output_dir=str(run))
    replace_file(folder / "recipe.yaml", dataclasses.replace(checked, training=training).to_yaml())
    _keep_code(folder / "code")
    replace_file(made.script, made.text)
    number = slurm.submit(made.script)
    line = {"job": number, "submitted": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
    append_lines(folder / JOBS, [line])
    return dataclasses.replace(made, number=number)


def jobs_of(run: Path) -> list[dict[str, Any]]:
    """The submissions of a run folder, the last one last. UserError where there is none."""
    path = run / FOLDER / JOBS
    if not path.is_file():
        raise UserError(f"{path}: is not there; `align launch slurm RECIPE` writes it when it submits")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _keep_code(folder: Path) -> None:
    """This package, and the files of Python in the working folder, of which rewards and methods may be."""
    if folder.exists():
        shutil.rmtree(folder)
    package = Path(align.__file__).parent
    inside = (file for file in package.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    for file in (*inside, *Path.cwd().glob("*.py")):
        place = folder / file.relative_to(package.parent if file.is_relative_to(package) else Path.cwd())
        place.parent.mkdir(parents=True, exist_ok=True)
        copy_file(file, place)
