"""How a run begins: as a new one, or from a checkpoint, with a folder that tells of this past and of no other."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from align.assembly import Logs, Setup
from align.errors import UserError
from align.files import copy_file, write_json
from align.training import checkpoint, snapshot
from align.training.environment import environment
from align.training.loop import Past
from align.training.metrics import CompletionsLog, MetricsLog
from align.training.runfolder import BEFORE, RunFolder, check_resume
from align.training.snapshot import Progress
from align.training.summary import describe_data

Say = Callable[[str], Any]


@dataclass(frozen=True)
class Resume:
    """How a run is gone on with."""

    path: str = "auto"  # a checkpoint, or the newest good one
    allow: tuple[str, ...] = ()  # recipe keys that may differ


def begin(setup: Setup, resume: Resume | None, num_steps: int, say: Say) -> tuple[Progress, Logs]:
    """Loads the checkpoint of a resumed run, leaves what came after it, and writes what runs from here on.

    What was written by an abandoned past goes first: a kill in the middle must not leave it beside a folder that calls
    it this run's.
    """
    world, folder = setup.world, setup.folder
    path, past = _found(setup, resume, say)
    progress = Progress()
    if path is not None:
        progress = snapshot.load(path, setup.trainee, trusted=folder.trust.checkpoint)
        _refuse_end(path, progress.step, num_steps)
        _judge_again(setup, progress, say)
    if resume is not None:
        with world.main_first():
            setup.source.restore(progress, snapshot.load_experience(path) if path else None, past)
    logs: Logs = (None, None)
    with world.main_first():
        if world.main:
            checkpoint.rewind(folder.checkpoints, progress.step)
            if path is not None and past.foreign:
                _carry_over(path.parent.parent, folder)
            for difference in _introduce(setup):
                say(f"environment: {difference}: what follows is not bitwise for certain what it would have been")
            logs = _logs(setup, progress, path is not None, say)
    return progress, logs


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
    if progress.best_step >= 0 and training.load_best_model_at_end and setup.world.deepspeed:
        with setup.world.main_first():
            if setup.world.main and not setup.folder.trust.checkpoint:
                _refuse_foreign(best)


def _refuse_foreign(best: Path) -> None:
    """Now, and not when its pickles are to be opened at the end."""
    if reasons := checkpoint.foreign(best):
        raise UserError(
            f"{best}: holds the best evaluation's weights in DeepSpeed's pickles, and these may not be opened: "
            f"{'; '.join(reasons)}. If you made them yourself, pass --trust-checkpoint"
        )


def _found(setup: Setup, resume: Resume | None, say: Say) -> tuple[Path | None, Past]:
    """The checkpoint to go on from, and whose past it is; the same on every rank."""
    world = setup.world
    found: tuple[Path | None, Past] = (None, Past())
    with world.main_first():
        if world.main and resume is not None:
            found = _checkpoint_of(setup, resume, say)
    path, past = world.everyone(found)[0]
    if path is not None:
        say(f"going on from {path.name}")
    elif resume is not None:
        say(f"{setup.folder.path}: holds no checkpoint, so the run begins at step 1")
    return path, past


def _checkpoint_of(setup: Setup, resume: Resume, say: Say) -> tuple[Path | None, Past]:
    folder = setup.folder
    named = None if resume.path == "auto" else checkpoint.require_good(Path(resume.path))
    path = named or checkpoint.latest_good(folder.checkpoints, say)
    home = path.parent.parent if path else folder.path
    known = home / "identity.json"
    if path is None and not known.exists():
        return None, Past()
    changes: list[str] = []
    if known.exists() or "all" not in resume.allow:
        changes = check_resume(_read_identity(known), identity(setup), resume.allow)
    for change in changes:
        say(f"allowed: {change}")
    foreign = home.resolve() != folder.path.resolve()
    return path, Past(changed=bool(changes) or not known.exists(), foreign=foreign)


# ---- what the folder says of the run --------------------------------------------------------------------------------


def identity(setup: Setup) -> dict[str, Any]:
    """What must be the same when the run is resumed."""
    world, data = setup.world, setup.splits.train.fingerprint
    return {
        "recipe": setup.recipe.to_dict(),
        "data": data,
        "weights": setup.weights,
        "world_size": world.size,
        "sharding": world.sharding,
    }


def _read_identity(known: Path) -> dict[str, Any]:
    try:
        return json.loads(known.read_text(encoding="utf-8"))
    except FileNotFoundError:
        finding = "is not there, so nothing says of which run the checkpoint is. Name it where its run wrote it"
    except (OSError, ValueError) as error:
        finding = f"cannot be read ({error}), and it says of which run the checkpoint is. Put it back"
    raise UserError(f"{known}: {finding}, or pass --allow-changes all if you are certain")


def _carry_over(home: Path, folder: RunFolder) -> None:
    """What the run whose checkpoint is gone on from tells of the steps before it, into a folder of its own."""
    for name in (folder.metrics.name, folder.completions.name, folder.environment.name, BEFORE):
        if (home / name).exists():
            copy_file(home / name, folder.path / name)


def _introduce(setup: Setup) -> list[str]:
    """The folder says what runs in it now, also where that was changed on resume: `align train RUN` goes on with it.

    Returns how the environment differs from the one that was there.
    """
    folder, world = setup.folder, setup.world
    folder.write_recipe(setup.recipe.to_yaml())
    now = environment(
        world_size=world.size, sharding=world.sharding, data=setup.splits.train.fingerprint, weights=setup.weights
    )
    write_json(folder.path / "data.json", describe_data(setup.splits))
    write_json(folder.path / "identity.json", identity(setup))
    return folder.write_environment(now)


def _logs(setup: Setup, progress: Progress, resumed: bool, say: Say) -> Logs:
    """The logs as they were at this progress; opened once the folder is known to be this run's."""
    folder = setup.folder
    log, written = MetricsLog(folder.metrics), CompletionsLog(folder.completions)
    if missing := log.truncate_after(progress.told):
        say(f"{folder.metrics}: has no line of {len(missing)} of the {progress.told} steps before")
    written.truncate_after(progress.told if resumed else -1)
    return log, written
