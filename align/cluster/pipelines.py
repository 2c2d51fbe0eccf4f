"""A pipeline as jobs: one for each stage, which begins when those that it comes after have ended well.

A stage whose model an earlier one still has to make is checked with that one's own model in its place. Where a stage
fails, Slurm takes those after it out of the queue. Submitted again, a pipeline goes on at the first stage that has not
ended. On this machine the stages are run one after the other.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from align.cluster import local, slurm, submission
from align.cluster.script import Places, filled, options
from align.cluster.stages import PROGRAMS, Pipeline, Stage, read_pipeline
from align.cluster.submission import Submitted
from align.errors import UserError
from align.recipe.load import load_recipe
from align.recipe.look_at_models import model_folder
from align.runfolder.folder import RunFolder
from align.system.files import link, replace_file
from align.system.terminal import say
from align.system.yaml12 import to_yaml

KEPT = "pipeline.yaml"  # in the folder: what was submitted last
DONE = "done"  # in the folder of a stage of commands
LIVE = ("PENDING", "RUNNING", "CONFIGURING", "COMPLETING", "REQUEUED", "SUSPENDED")


@dataclass(frozen=True)
class Prepared:
    """A stage that may be submitted."""

    stage: Stage
    made: Submitted
    recipe: str = ""  # as YAML; of commands none


# ---- what would be submitted ----------------------------------------------------------------------------------------


def prepare(pipeline: Pipeline) -> list[Prepared]:
    """Nothing is written. Mistakes and UserError as `align check` finds them, with the stage's name in front."""
    found: list[Prepared] = []
    with tempfile.TemporaryDirectory(prefix="align-") as folder:
        for stage in pipeline.stages:
            try:
                found.append(_commands(pipeline, stage) if stage.commands else _run(pipeline, stage, Path(folder)))
            except UserError as error:
                raise UserError(f"stage {stage.name}: {error}") from None
    return found


def _run(pipeline: Pipeline, stage: Stage, stand_ins: Path) -> Prepared:
    """`stand_ins` has a link for each stage before: to the model that it starts from."""
    job, place = pipeline.jobs[stage.name], pipeline.place(stage)
    with_models = dataclasses.replace(pipeline, folder=stand_ins)
    words = [(with_models if word.startswith("model.") else pipeline).filled(word) for word in stage.overrides]
    _refuse_unknown(words, stand_ins)
    checked = load_recipe(stage.recipe, [*words, f"training.output_dir={place}"], world_size=job.num_ranks)
    name = checked.model.model_name_or_path
    if (start := model_folder(name) if name else None) is not None:
        link(stand_ins / stage.name, start)
    text = checked.to_yaml().replace(str(stand_ins), str(pipeline.folder))
    return Prepared(stage, submission.job_of(checked, job), text)


def _refuse_unknown(words: Sequence[str], stand_ins: Path) -> None:
    """UserError where a stage before starts from a model that is not here."""
    for word in words:
        for name in re.findall(rf"{re.escape(str(stand_ins))}/([\w.-]+)", word):
            if not (stand_ins / name).exists():
                raise UserError(
                    f"{word.partition('=')[0]}: the model that {name} starts from is not here, so this cannot be "
                    "checked; fetch it first (align check --all), or name a folder"
                )


def _commands(pipeline: Pipeline, stage: Stage) -> Prepared:
    """The script of a stage that is no run."""
    job = dataclasses.replace(pipeline.jobs[stage.name], warning=0)  # nobody here would hear it
    if job.num_servers:
        raise UserError("job: vllm_nodes and vllm_gpus_per_node are for a run that writes; leave them out for commands")
    place = pipeline.place(stage)
    folder = place / submission.FOLDER
    places = Places(
        script=folder / "job.sh", run=place, code=folder / "code", recipe=place, cwd=Path.cwd(),
        python=Path(sys.executable),
    )  # fmt: skip
    lines = (f"run {shlex.join(words)}" for words in _words(pipeline, stage))
    known = {
        "options": "\n".join(options(stage.name, job, places)), "script": places.script,
        "cwd": shlex.quote(str(places.cwd)), "code": shlex.quote(str(places.code)), "prelude": job.prelude,
        "container": job.container, "commands": "\n".join(lines), "done": shlex.quote(str(place / DONE)),
    }  # fmt: skip
    return Prepared(stage, Submitted(places.script, filled("commands.sh", known)))


def _words(pipeline: Pipeline, stage: Stage) -> Iterator[list[str]]:
    for line in stage.commands:
        program, *rest = shlex.split(pipeline.filled(line))
        yield [sys.executable, "-m", PROGRAMS[program], *rest]


# ---- under Slurm ----------------------------------------------------------------------------------------------------


def submit(pipeline: Pipeline) -> Iterator[tuple[Stage, str]]:
    """Each stage with the number of its job, as it is submitted; without one where it has ended already."""
    prepared = prepare(pipeline)
    for stage in pipeline.stages:
        if not ended(pipeline, stage) and (live := _live(pipeline, stage)):
            raise UserError(f"stage {stage.name}: {live}; wait, or end it: align launch cancel {pipeline.folder}")
    _keep(pipeline)
    numbers: dict[str, str] = {}
    for one in prepared:
        stage = one.stage
        if ended(pipeline, stage):
            yield stage, ""
            continue
        submission.write(one.made, one.recipe)
        before = [numbers[name] for name in stage.after if name in numbers]
        numbers[stage.name] = submission.queue(one.made, *_dependency(before))
        yield stage, numbers[stage.name]


def _dependency(jobs: Sequence[str]) -> tuple[str, ...]:
    """Not in the script, which may be submitted again when those jobs are forgotten. One that can never begin, because
    another has failed, leaves the queue."""
    return (f"--dependency=afterok:{':'.join(jobs)}", "--kill-on-invalid-dep=yes") if jobs else ()


def _keep(pipeline: Pipeline) -> None:
    pipeline.folder.mkdir(parents=True, exist_ok=True)
    replace_file(pipeline.folder / KEPT, to_yaml(pipeline.to_dict()))


def is_pipeline(folder: Path) -> bool:
    return (folder / KEPT).is_file()


def status(folder: Path) -> Iterator[str]:
    """A line for each stage."""
    pipeline = read_pipeline(folder / KEPT)
    for stage in pipeline.stages:
        yield f"{stage.name}: {_told(pipeline, stage)}"


def cancel(folder: Path) -> Iterator[str]:
    """Ends all jobs that are still there, the last stage first, and names them."""
    pipeline = read_pipeline(folder / KEPT)
    for stage in reversed(pipeline.stages):
        if _live(pipeline, stage):
            slurm.cancel(number := _number(pipeline, stage))
            yield f"{stage.name}: job {number} is cancelled"


def ended(pipeline: Pipeline, stage: Stage) -> bool:
    """Whether a stage is done."""
    place = pipeline.place(stage)
    return (place / DONE).exists() if stage.commands else RunFolder(place).ended


def _number(pipeline: Pipeline, stage: Stage) -> str:
    """Of the stage's last job; empty where it was never submitted."""
    if not (pipeline.place(stage) / submission.FOLDER / submission.JOBS).is_file():
        return ""
    return submission.jobs_of(pipeline.place(stage))[-1]["job"]


def _live(pipeline: Pipeline, stage: Stage) -> str:
    """What Slurm says of the stage's job, where that has not come to an end."""
    number = _number(pipeline, stage)
    found = slurm.states(number) if number else []
    return next((state.text for state in found if state.state in LIVE), "")


def _told(pipeline: Pipeline, stage: Stage) -> str:
    if ended(pipeline, stage):
        return "has ended well"
    number = _number(pipeline, stage)
    if not number:
        return "not submitted"
    found = slurm.states(number)
    return found[-1].text if found else f"job {number} is over, and Slurm has forgotten it; see align launch logs"


# ---- on this machine ------------------------------------------------------------------------------------------------


def run_here(pipeline: Pipeline, gpus: int) -> int:
    """One stage after the other; the exit code of the first that does not end well."""
    prepare(pipeline)
    _keep(pipeline)
    for stage in pipeline.stages:
        if ended(pipeline, stage):
            say(f"==> {stage.name}: has ended well already")
            continue
        say(f"==> {stage.name}")
        if code := _commands_here(pipeline, stage) if stage.commands else _run_here(pipeline, stage, gpus):
            say(f"align: stage {stage.name} has ended with {code}; the stages after it were not begun", file=sys.stderr)
            return code
    return 0


def _run_here(pipeline: Pipeline, stage: Stage, gpus: int) -> int:
    words = [stage.recipe, *map(pipeline.filled, stage.overrides), f"training.output_dir={pipeline.place(stage)}"]
    job = pipeline.jobs[stage.name]
    return local.launch(words, local.LocalRun(sharding=job.sharding, offload=job.offload, resume="auto"), gpus)


def _commands_here(pipeline: Pipeline, stage: Stage) -> int:
    pipeline.place(stage).mkdir(parents=True, exist_ok=True)
    for words in _words(pipeline, stage):
        if code := subprocess.run(words, env=dict(os.environ), check=False).returncode:
            return code if code > 0 else 1
    replace_file(pipeline.place(stage) / DONE, "")
    return 0
