"""How a run begins: as a new one, or from a checkpoint, with a folder that tells of this past and of no other."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from align.errors import UserError
from align.recipe.load import completed
from align.recipe.steps import steps_of_experience
from align.run.assemble import Begun, Logs, Setup
from align.run.identity import commits_of
from align.runfolder import checkpoint
from align.runfolder.data_json import describe_data
from align.runfolder.environment import environment
from align.runfolder.folder import BEFORE, RunFolder, check_resume
from align.runfolder.logs import CompletionsLog, MetricsLog
from align.sources.rounds import EVALUATION, ROUNDS
from align.system.files import copy_file, inner_folder, write_json
from align.system.sums import SUM, sealed, unsealed
from align.training import snapshot
from align.training.portion import Past
from align.training.snapshot import Progress

Say = Callable[[str], Any]
OLDER = (
    "was written by an older align, which did not note what else a run reads (configs, tokenizers, generation "
    "settings, code and models of rewards, recordings): whether these are what they were cannot be seen"
)
OTHERWISE = (
    "its state is divided anew: the steps have the same rows, weights, moments and rates; they are equal in "
    "expectation, not bitwise"
)


@dataclass(frozen=True)
class Resume:
    """How a run is gone on with."""

    path: str = "auto"  # a checkpoint, or the newest good one
    allow: tuple[str, ...] = ()  # recipe keys that may differ


def begin(setup: Setup, resume: Resume | None, num_steps: int, say: Say) -> Begun:
    """Loads the checkpoint of a resumed run, leaves what came after it, and writes what runs from here on.

    Later checkpoints are set aside before anything of theirs is touched: after a kill in the middle the newest one is
    still that which all else belongs to. What runs here says so last, when nothing of another past is left.
    """
    world, folder = setup.world, setup.folder
    path, past, name = _found(setup, resume, say)
    progress = Progress()
    if path is not None:
        progress = snapshot.restore(path, setup.team, setup.recipe.training.seed)
        _refuse_end(path, progress.step, num_steps)
        _judge_again(setup, progress, say)
    with world.main_first():
        if world.main:
            checkpoint.rewind(folder.checkpoints, progress.step)
    if resume is not None:
        with world.main_first():
            setup.source.restore(progress, snapshot.load_experience(path) if path else None, past)
    logs: Logs = (None, None)
    named = {**setup.identity, "run": name}
    with world.main_first():
        if world.main:
            if path is not None and past.foreign:
                _carry_over(path.parent.parent, folder)
                _carry_rounds(path.parent.parent, setup, progress.step)
            for difference in _introduce(setup, named):
                say(f"environment: {difference}: what follows is not bitwise for certain what it would have been")
            logs = _logs(setup, progress, path, say)
    return Begun(progress, logs, named)


def _refuse_end(path: Path, step: int, num_steps: int) -> None:
    if step > num_steps:
        raise UserError(
            f"{path}: has made {step} steps, and this recipe ends after {num_steps}. Raise training.max_steps (or "
            "training.num_train_epochs) with --allow-changes, or name an earlier checkpoint by --resume PATH"
        )


def _judge_again(setup: Setup, progress: Progress, say: Say) -> None:
    """What the evaluations so far mean to the recipe of now."""
    training, best = setup.recipe.training, checkpoint.folder(setup.folder.checkpoints, progress.best_step)
    there = setup.world.everyone(best.is_dir())[0]
    if progress.best_step >= 0 and training.load_best_model_at_end and not there:
        say(
            f"{best}: is not there, so its evaluation no longer counts: the best is sought from step {progress.step} on"
        )
        progress.best_step, progress.best_value, progress.bad_evaluations = -1, 0.0, 0
    patience = training.early_stopping_patience
    progress.ended_early = bool(patience) and progress.bad_evaluations >= patience


def _found(setup: Setup, resume: Resume | None, say: Say) -> tuple[Path | None, Past, str]:
    """The checkpoint to go on from, whose past it is, and the run's own name; the same on every rank."""
    world = setup.world
    found: tuple[Path | None, Past, str] = (None, Past(), _new_name())
    with world.main_first():
        if world.main and resume is not None:
            found = _checkpoint_of(setup, resume, say)
    path, past, name = world.everyone(found)[0]
    if path is not None:
        say(f"going on from {path.name}")
    elif resume is not None:
        say(f"{setup.folder.path}: holds no checkpoint, so the run begins at step 1")
    return path, past, name


def _checkpoint_of(setup: Setup, resume: Resume, say: Say) -> tuple[Path | None, Past, str]:
    """A checkpoint says itself of which run it is; of an older align's, the folder that it stands in does.

    What the run folder is called now and its newest checkpoint is not was allowed before that run was killed.
    """
    folder = setup.folder
    named = None if resume.path == "auto" else checkpoint.require_good(Path(resume.path))
    path = named or checkpoint.latest_good(folder.checkpoints, say)
    home = path.parent.parent if path else folder.path
    foreign = home.resolve() != folder.path.resolve()
    if path is None and not folder.identity.exists():
        return None, Past(), _new_name()
    saved = snapshot.identity_of(path) if path else None
    called = _called(home, say, needed=saved is None and "all" not in resume.allow)
    of_run = saved or called
    if of_run is None:
        return path, Past(changed=True, foreign=foreign), _new_name()
    if "recipe" in of_run:
        of_run = {**of_run, "recipe": completed(of_run["recipe"], type(setup.recipe.method))}
    if "format" not in of_run:
        say(f"{path or folder.identity}: {OLDER}")
    own = None if foreign else (called or {}).get("run") or of_run.get("run")
    name = str(own or _new_name())
    now = {**setup.identity, "run": own if own else of_run.get("run")}
    before = called if called and not foreign and called.get("run") == of_run.get("run") else None
    changes = check_resume(of_run, now, resume.allow, before)
    for change in changes:
        say(f"allowed: {change}")
    if any(change.startswith(("world_size:", "sharding:")) for change in changes):
        say(OTHERWISE)
    return path, Past(changed=bool(changes), foreign=foreign), name


def _new_name() -> str:
    return os.urandom(8).hex()


# ---- what the folder says of the run --------------------------------------------------------------------------------


def _called(home: Path, say: Say, *, needed: bool) -> dict[str, Any] | None:
    """What a run folder says of its run. None where nothing is there to be read: a UserError where it is `needed`."""
    known = RunFolder(home).identity
    try:
        found = json.loads(known.read_text(encoding="utf-8"))
        return unsealed(found) if SUM in found or "format" in found else found
    except FileNotFoundError:
        finding = "is not there, so nothing says of which run the checkpoint is. Name it where its run wrote it"
    except (OSError, ValueError, TypeError) as error:
        finding = f"cannot be read ({error}), and it says of which run the checkpoint is. Put it back"
        if not needed:
            say(f"{known}: cannot be read ({error}), so what the checkpoint says of itself is taken")
    if needed:
        raise UserError(f"{known}: {finding}, or pass --allow-changes all if you are certain")
    return None


def _carry_over(home: Path, folder: RunFolder) -> None:
    """What the run whose checkpoint is gone on from tells of the steps before it, into a folder of its own."""
    for name in (folder.metrics.name, folder.completions.name, folder.environment.name, BEFORE):
        if (home / name).exists():
            copy_file(home / name, folder.path / name)


def _carry_rounds(home: Path, setup: Setup, step: int) -> None:
    """The files of rounds that had begun by this step, and their evaluations where they had ended."""
    lasting = steps_of_experience(setup.recipe)
    for file in sorted((home / ROUNDS).glob("round-*/*")):
        number = int(file.parent.name.removeprefix("round-"))
        if (number - 1) * lasting < step and (file.name != EVALUATION or number * lasting <= step):
            copy_file(file, inner_folder(setup.folder.path / ROUNDS / file.parent.name) / file.name)


def _introduce(setup: Setup, identity: dict[str, Any]) -> list[str]:
    """The folder says what runs in it now, also where that was changed on resume: `align train RUN` goes on with it.

    Returns how the environment differs from the one that was there.
    """
    folder, world = setup.folder, setup.world
    folder.write_recipe(setup.recipe.to_yaml())
    now = environment(
        world_size=world.size, sharding=world.sharding, data=setup.splits.train.fingerprint, weights=setup.weights,
        commits=commits_of(setup.recipe.model),
    )  # fmt: skip
    write_json(folder.path / "data.json", describe_data(setup.splits))
    write_json(folder.identity, sealed(identity))
    return folder.write_environment(now)


def _logs(setup: Setup, progress: Progress, path: Path | None, say: Say) -> Logs:
    """The logs as they were at this progress; opened once the folder is known to be this run's."""
    folder = setup.folder
    log, written = MetricsLog(folder.metrics), CompletionsLog(folder.completions)
    marks = snapshot.logs_of(path) if path else {}
    for one in (log, written):
        if one.path.name in marks and not one.begins_with(marks[one.path.name]):
            say(f"{one.path}: its lines up to step {progress.step} are not those that were written; they stay so")
    if missing := log.truncate_after(progress.told):
        say(f"{folder.metrics}: has no line of {len(missing)} of the {progress.told} steps before")
    written.truncate_after(progress.told if path else -1)
    return log, written
