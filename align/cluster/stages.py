"""A pipeline as its file says it: stages in order, each a run or some commands, and what each comes after.

    folder: runs/mine                    # each stage in a folder of its name; default: runs/ and the file's name
    job: {gpus_per_node: 8}              # options of `align launch slurm`, for all stages
    stages:
      - {name: sft, recipe: sft}
      - {name: ppo, recipe: ppo, after: [sft], job: {nodes: 8, sharding: zero3},
         overrides: ["model.model_name_or_path={sft}"]}
      - {name: evaluation, after: [ppo], commands: ["align-eval report {folder}/evaluation"]}

{NAME} is the folder of another stage that comes before, {folder} that of all of them.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from align.cluster.settings import SlurmJob
from align.errors import Mistakes, UserError, did_you_mean
from align.recipe.text import Written, read
from align.recipe.types import build

NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
PLACE = re.compile(r"\{([\w.-]+)\}")
FOLDER = "folder"
PROGRAMS = {"align": "align", "align-eval": "align_eval"}  # that a command may begin with, and their modules
NOT_OF_STAGES = ("after", "array")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One job of a pipeline."""

    name: str = ""
    recipe: str = ""  # of a run
    overrides: list[str] = field(default_factory=list)  # KEY=VALUE
    commands: list[str] = field(default_factory=list)  # instead of a run: lines of align-eval or align, in order
    after: list[str] = field(default_factory=list)  # stages that must have ended well
    job: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """Stages in the order in which they are submitted."""

    folder: Path
    stages: tuple[Stage, ...]
    jobs: Mapping[str, SlurmJob]  # of each stage

    def place(self, stage: Stage) -> Path:
        return self.folder / stage.name

    def filled(self, text: str) -> str:
        """With the folders in the place of their names."""
        places = {stage.name: str(self.place(stage)) for stage in self.stages} | {FOLDER: str(self.folder)}
        return PLACE.sub(lambda found: places.get(found[1], found[0]), text)

    def to_dict(self) -> dict[str, Any]:
        """What `read_pipeline` reads again."""
        return {"folder": str(self.folder), "stages": [dataclasses.asdict(stage) for stage in self.stages]}


def read_pipeline(file: Path, changes: Sequence[str] = (), folder: str = "") -> Pipeline:
    """`changes` are KEY=VALUE for every run. Mistakes with all that is wrong with the file."""
    if not file.is_file():
        raise UserError(f"{file}: no such file; a pipeline is a YAML file with stages")
    if any(_is_folder(word) for word in changes):
        raise UserError("training.output_dir: each stage has its own; the folder of all is --folder")
    written = read(file)
    for key in written.values.keys() - {FOLDER, "job", "stages"}:
        written.wrong(key, f"no such key; a pipeline has {FOLDER}, job, stages.{did_you_mean(key, [FOLDER, 'job'])}")
    if not isinstance(given := written.get(FOLDER, ""), str):
        written.wrong(FOLDER, f"found {given!r}; expected the name of a folder")
    listed = written.get("stages")
    if not isinstance(listed, list) or not listed:
        written.wrong("stages", "missing; expected a list of stages, each with a name and a recipe or commands")
        raise Mistakes(written.mistakes)
    built = [build(written, f"stages.{i}", Stage, values) for i, values in enumerate(listed)]
    stages = [stage for stage in built if stage is not None]
    jobs: dict[str, SlurmJob] = {}
    for i, stage in enumerate(stages):
        for finding in _wrong(stage, stages[:i]):
            written.wrong(f"stages.{i}", finding)
        _job(written, i, stage, jobs)
    if written.mistakes:
        raise Mistakes(written.mistakes)
    for_all = [dataclasses.replace(s, overrides=[*s.overrides, *(changes if s.recipe else ())]) for s in stages]
    place = Path(folder or given or f"runs/{file.stem}").absolute()
    return Pipeline(folder=place, stages=tuple(for_all), jobs=jobs)


def _wrong(stage: Stage, before: Sequence[Stage]) -> Iterator[str]:
    """What is wrong with a stage that stands behind these."""
    names = [other.name for other in before]
    if not NAME.fullmatch(stage.name) or stage.name == FOLDER:
        yield f"name: found {stage.name!r}; expected a name for a folder, of letters, digits, _, . and -"
    if stage.name in names:
        yield f"name: {stage.name} is the name of two stages"
    if bool(stage.recipe) == bool(stage.commands):
        yield f"{stage.name}: expected a recipe, or commands, and not both"
    if stage.overrides and not stage.recipe:
        yield f"{stage.name}: overrides belong to a recipe"
    if any(_is_folder(word) for word in stage.overrides):
        yield f"{stage.name}: training.output_dir: each stage has its own, in the pipeline's folder (--folder)"
    for other in stage.after:
        if other not in names:
            yield f"after: {other} is no stage above {stage.name}.{did_you_mean(other, names)}"
    known = _before(stage, before)
    for used in dict.fromkeys(PLACE.findall(" ".join([*stage.overrides, *stage.commands]))):
        if used in names and used not in known:
            yield f"{stage.name} reads {{{used}}}, and does not come after {used}; name it in `after`"
    for line in stage.commands:
        yield from _wrong_command(line)


def _is_folder(word: str) -> bool:
    return word.partition("=")[0] == "training.output_dir"


def _before(stage: Stage, before: Sequence[Stage]) -> set[str]:
    """Stages that have ended when this one begins."""
    found = set(stage.after)
    for other in reversed(before):
        if other.name in found:
            found |= set(other.after)
    return found


def _wrong_command(line: str) -> Iterator[str]:
    try:
        words = shlex.split(line)
    except ValueError as error:
        yield f"commands: {line!r} is no line of words: {error}"
        return
    if not words or words[0] not in PROGRAMS:
        yield f"commands: {line!r} begins with {(words or ['nothing'])[0]}; expected {' or '.join(PROGRAMS)}"


def _job(written: Written, number: int, stage: Stage, jobs: dict[str, SlurmJob]) -> None:
    """The options of a stage's job: its own over those of all."""
    common = written.get("job") or {}
    if not isinstance(common, dict):
        written.wrong("job", "expected options of `align launch slurm`, such as {gpus_per_node: 8}")
        return
    named = {str(k).replace("-", "_"): v for k, v in {**common, **stage.job}.items()}
    texts = [f.name for f in dataclasses.fields(SlurmJob) if f.type == "str"]  # a time in minutes reads as a number
    given = {name: str(v) if name in texts and type(v) is int else v for name, v in named.items()}
    if isinstance(more := given.get("sbatch"), dict):  # of sbatch all are texts, as {mem: 64}
        given["sbatch"] = {key: str(v) if type(v) is int else v for key, v in more.items()}
    for name in NOT_OF_STAGES:
        if given.pop(name, None) is not None:
            written.wrong(f"stages.{number}.job.{name}", "is not for the stages of a pipeline")
    try:
        made = build(written, f"stages.{number}.job", SlurmJob, given)
    except Mistakes as error:
        written.wrong(f"stages.{number}.job", str(error))
        return
    if made is not None:
        jobs[stage.name] = made
