"""What every process of a launch does: the jobs of a JSON file, one after the other, and a note of how each ended.

    accelerate launch ... tests/distributed/driver.py JOBS.json

A job is {"name", "recipe", "overrides"}; with "resume_from" [NAME, STEP] it goes on from a copy of that job's
checkpoint, with "across" [LAUNCH, NAME, STEP] from one of another launch, with "sharding" fsdp2 torch's own sharding
takes the place of the launch's, with "offload" DeepSpeed keeps these parts in the main memory, with "replay_of" NAME it
learns from what that job of the launch of one process has written. A job {"name", "moving": true} moves weights,
"methods" has every method take steps, "reading" reads a large model.
A launch costs as much as ten of these jobs, so there is one for each sharding.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

warnings.filterwarnings("ignore", category=FutureWarning)

import every_method  # noqa: E402  (beside this file)
import moving  # noqa: E402
import reading  # noqa: E402
import torch  # noqa: E402

from align.__main__ import leave  # noqa: E402
from align.errors import AlignError, UserError  # noqa: E402
from align.recipe.load import load_recipe  # noqa: E402
from align.run import train as run  # noqa: E402
from align.world import distributed  # noqa: E402


def main() -> None:
    torch.set_num_threads(1)
    jobs = json.loads(Path(sys.argv[1]).read_text())
    root = Path(sys.argv[1]).parent
    notes: dict[str, Any] = {"world": look_around()}
    for job in jobs:
        act = next((acts for kind, acts in APART.items() if job.get(kind)), train)
        notes[job["name"]] = act(root, job)
    (root / f"notes-{os.environ.get('RANK', '0')}.json").write_text(json.dumps(notes))


def move(root: Path, job: dict[str, Any]) -> dict[str, bool]:
    """Which of its promises were kept."""
    with launched(job):
        return moving.go(distributed.join(1.0), root / job["name"])


def try_methods(root: Path, job: dict[str, Any]) -> dict[str, Any]:
    with launched(job):
        return every_method.go(distributed.join(1.0), root / job["name"])


def read_large(root: Path, job: dict[str, Any]) -> dict[str, int]:
    """What this rank held at most while a model was read."""
    folder = root / job["name"]
    with launched(job):
        world = distributed.join(1.0)
        with world.main_first():
            if world.main:
                reading.make(folder)
        return reading.look(world, folder)


APART = {"moving": move, "methods": try_methods, "reading": read_large}  # by a key of the job


def train(root: Path, job: dict[str, Any]) -> dict[str, str]:
    """How the job ended on this rank: the kind and the words of its error, or nothing."""
    folder = root / job["name"]
    resume = None
    if "across" in job:  # a run of another number of processes, or divided otherwise
        launch, name, step = job["across"]
        path = root.parent / f"launch-{launch}" / name / "checkpoints" / f"step-{step:06d}"
        resume = run.Resume(path=str(path), allow=("world_size", "sharding"))
    if "resume_from" in job:
        resume = run.Resume(path=str(_copied(root, folder, *job["resume_from"])))
    words = [*job["overrides"], f"training.output_dir={folder}"]
    if "replay_of" in job:
        words.append(f"rollout.replay={root.parent / 'launch-none' / job['replay_of']}")
    try:
        with launched(job):
            run.train(load_recipe(job["recipe"], words), resume)
    except AlignError as error:
        return {"error": type(error).__name__, "text": str(error)}
    return {}


@contextmanager
def launched(job: dict[str, Any]) -> Iterator[None]:
    """What `accelerate launch` says of fsdp2.yaml, or of offloading, while a job lasts that asks for it."""
    asked = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"} if job.get("sharding") == "fsdp2" else {}
    asked |= {f"ACCELERATE_DEEPSPEED_OFFLOAD_{part}_DEVICE": "cpu" for part in job.get("offload", ())}
    os.environ.update(asked)
    try:
        yield
    finally:
        for name in asked:
            del os.environ[name]


def _copied(root: Path, folder: Path, other: str, step: int) -> Path:
    """The run folder `other` as a kill after `step` would have left it; made by the main process."""
    name = f"step-{step:06d}"
    world = distributed.join(1.0)
    if world.main:
        shutil.copytree(root / other, folder)
        for found in (folder / "checkpoints").iterdir():
            if found.name != name:
                shutil.rmtree(found)
        shutil.rmtree(folder / "final")
    world.barrier()
    return folder / "checkpoints" / name


def look_around() -> dict[str, Any]:
    """What this process sees of the others, and what it refuses."""
    world = distributed.join(1.0)
    seen: dict[str, Any] = {"size": world.size, "rank": world.rank, "sharding": world.sharding}
    seen["sum"] = world.sum(torch.tensor([1.0, float(world.rank)])).tolist()
    seen["any"] = [world.any(world.rank == 1), world.any(False)]
    seen["everyone"] = world.everyone(f"rank {world.rank}")
    world.must_agree("what is the same", "x")
    seen["differing"] = _refusal(lambda: world.must_agree("the data", f"of rank {world.rank}"))
    seen["first"] = _refusal(lambda: _fail_first(world))
    real, os.environ["WORLD_SIZE"] = os.environ.get("WORLD_SIZE"), "3"
    seen["world_size"] = _refusal(lambda: distributed._assert_came_true(world, world.sharding))
    os.environ.update({"WORLD_SIZE": real} if real else {})
    if real is None:
        del os.environ["WORLD_SIZE"]
    seen["sharding_refused"] = _refusal(lambda: distributed._assert_came_true(world, "fsdp2"))
    return seen


def _fail_first(world: distributed.World) -> None:
    with world.main_first():
        if world.main:
            raise UserError("the file is not there")


def _refusal(call: Any) -> str:
    try:
        call()
    except AlignError as error:
        return f"{type(error).__name__}: {error}"
    return ""


if __name__ == "__main__":
    main()
    leave(0)
