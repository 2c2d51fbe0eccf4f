"""A run from its recipe to its report: take the folder, begin or resume, train, finish."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers

from align.assembly import Logs, Setup, assemble, make_run
from align.assembly_parts import count_steps
from align.errors import UserError
from align.models.save import save_final
from align.recipe import Recipe
from align.report.page import write as write_report
from align.training import checkpoint, snapshot
from align.training.baselines import bag_of_words
from align.training.distributed import World, join
from align.training.environment import environment
from align.training.evaluate import Evaluation
from align.training.loop import train as train_loop
from align.training.metrics import CompletionsLog, MetricsLog
from align.training.progress import Progress as Display
from align.training.runfolder import RunFolder, check_resume
from align.training.snapshot import Progress
from align.training.summary import describe_data
from align.training.trackers import check_trackers, no_telemetry, open_trackers

BEFORE = "test_before.json"  # the test split's metrics before the first step


@dataclass(frozen=True)
class Resume:
    """How a run is gone on with."""

    path: str = "auto"  # a checkpoint, or the newest good one
    allow: tuple[str, ...] = ()  # recipe keys that may differ
    trusted: bool = False  # DeepSpeed's pickles may be opened whoever owns them


def train(recipe: Recipe, resume: Resume | None = None) -> None:
    """Runs a recipe to its report. Raises Stopped after SIGTERM or SIGINT, RunError for a run that failed."""
    no_telemetry()
    transformers.utils.logging.disable_progress_bar()
    check_trackers(recipe.logging.report_to)
    world = join(recipe.optim)
    folder = RunFolder(recipe.output_dir)
    with world.main_first():
        if world.main:
            folder.take(resume=resume is not None)
    try:
        _train(recipe, resume, world, folder)
    finally:
        if world.main:
            folder.release()


def _train(recipe: Recipe, resume: Resume | None, world: World, folder: RunFolder) -> None:
    say = _speaker(world)
    for note in recipe.notes:
        say(note)
    setup = assemble(recipe, world, folder, say)
    path, changed = _begin(setup, resume, say)
    progress = Progress()
    if path is not None:
        progress = snapshot.load(path, setup.trainee, trusted=resume is not None and resume.trusted)
        if (experience := snapshot.load_experience(path)) is not None:
            setup.source.restore(experience)
    if changed:
        setup.source.forget(progress)
    log, written = _logs(setup, progress, resumed=path is not None)
    num_steps = count_steps(recipe, len(setup.splits.train))
    with ExitStack() as opened:
        opened.callback(setup.source.close)
        for file in (log, written):
            if file is not None:
                opened.callback(file.close)
        _steps(setup, progress, num_steps, (log, written), opened)


def _steps(setup: Setup, progress: Progress, num_steps: int, logs: Logs, opened: ExitStack) -> None:
    """From the first step to the report. What is opened here is closed by `opened`, however the run ends."""
    recipe, world, folder, (_, written) = setup.recipe, setup.world, setup.folder, logs
    say = _speaker(world)
    display = Display(
        num_steps,
        done=progress.step,
        num_tokens=progress.num_tokens,
        logging_steps=recipe.logging.logging_steps,
        main=world.main,
    )
    trackers = (
        open_trackers(recipe.logging.report_to, folder.path, recipe.to_dict(), done=progress.step) if world.main else []
    )
    for tracker in trackers:
        opened.callback(tracker.close)
    with display:
        loop = make_run(setup, num_steps, logs, trackers, display)
        if progress.step == 0:
            _show_completions(setup, written, 0, 0)
            _test(setup, folder.path / BEFORE, 0)
        progress = train_loop(loop, progress)
    _finish(setup, written, _outcome(setup, progress, num_steps, say), say)


# ---- beginning and resuming -----------------------------------------------------------------------------------------


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


def _begin(setup: Setup, resume: Resume | None, say: Callable[[str], Any]) -> tuple[Path | None, bool]:
    """A new run writes what it is; a resumed one finds its checkpoint, and whether it is allowed to be another run."""
    world, path, changed = setup.world, None, False
    with world.main_first():
        if world.main:
            path, changed = _checkpoint_of(setup, resume, say)
            if path is None:
                _introduce(setup)
    path, changed = world.everyone((path, changed))[0]
    if path is not None:
        say(f"going on from {path.name}")
    elif resume is not None:
        say(f"{setup.folder.path}: holds no checkpoint, so the run begins at step 1")
    return path, changed


def _logs(setup: Setup, progress: Progress, *, resumed: bool) -> Logs:
    """The logs as they were at this progress; opened once the folder is known to be this run's."""
    world, folder = setup.world, setup.folder
    found: Logs = (None, None)
    with world.main_first():
        if world.main:
            found = log, written = MetricsLog(folder.metrics), CompletionsLog(folder.completions)
            checkpoint.rewind(folder.checkpoints, progress.step)
            log.truncate_after(progress.step)
            written.truncate_after(progress.step if resumed else -1)
    return found


def _checkpoint_of(setup: Setup, resume: Resume | None, say: Callable[[str], Any]) -> tuple[Path | None, bool]:
    if resume is None:
        return None, False
    folder = setup.folder
    named = None if resume.path == "auto" else checkpoint.require_good(Path(resume.path))
    path = named or checkpoint.latest_good(folder.checkpoints, say)
    known = (path.parent.parent if path else folder.path) / "identity.json"
    if path is None and not known.exists():
        return None, False
    changes: list[str] = []
    if known.exists() or "all" not in resume.allow:
        changes = check_resume(_read_identity(known), identity(setup), resume.allow)
    for change in changes:
        say(f"allowed: {change}")
    return path, bool(changes) or not known.exists()


def _read_identity(known: Path) -> dict[str, Any]:
    try:
        return json.loads(known.read_text(encoding="utf-8"))
    except FileNotFoundError:
        finding = "is not there, so nothing says of which run the checkpoint is. Name it where its run wrote it"
    except (OSError, ValueError) as error:
        finding = f"cannot be read ({error}), and it says of which run the checkpoint is. Put it back"
    raise UserError(f"{known}: {finding}, or pass --allow-changes all if you are certain")


def _introduce(setup: Setup) -> None:
    folder, world = setup.folder, setup.world
    folder.write_recipe(setup.recipe.to_yaml())
    folder.write_environment(
        environment(
            world_size=world.size, sharding=world.sharding, data=setup.splits.train.fingerprint, weights=setup.weights
        )
    )
    _write_json(folder.path / "identity.json", identity(setup))
    _write_json(folder.path / "data.json", describe_data(setup.splits))


# ---- after the last step --------------------------------------------------------------------------------------------


def _outcome(setup: Setup, progress: Progress, num_steps: int, say: Callable[[str], Any]) -> dict[str, Any]:
    """Puts the weights of the best evaluation back where the recipe asks for them; says how the run ended."""
    training, folder = setup.recipe.training, setup.folder
    kept = progress.step
    if progress.ended_early:
        say(f"ended early: {progress.bad_evaluations} evaluations without improvement on step {progress.best_step}")
    if training.load_best_model_at_end and progress.best_step >= 0:
        kept = progress.best_step
        say(f"final/ holds step {kept}, the best evaluation")
        snapshot.restore_weights(checkpoint.folder(folder.checkpoints, kept), setup.trainee)
    best = {"best_step": progress.best_step, "best_value": progress.best_value} if progress.best_step >= 0 else {}
    return {
        "step": progress.step,
        "num_steps": num_steps,
        "ended_early": progress.ended_early,
        "final_step": kept,
    } | best


def _finish(setup: Setup, written: CompletionsLog | None, outcome: dict[str, Any], say: Callable[[str], Any]) -> None:
    """outcome.json, final/, the test split, completions after training, the report."""
    world, folder = setup.world, setup.folder
    _show_completions(setup, written, outcome["step"], outcome["final_step"])
    _test(setup, folder.path / "test.json", outcome["final_step"])
    state, critic = snapshot.whole_weights(setup.trainee), setup.trainee.critic
    of_critic = snapshot.whole_weights(critic) if critic else None
    with world.main_first():
        if world.main:
            _write_json(folder.path / "outcome.json", outcome)
            save_final(
                setup.model, setup.tokenizer, folder.final, state, base_name=setup.recipe.model.model_name_or_path
            )
            say(f"final model: {folder.final}")
            if critic:
                save_final(world.unwrap(critic.module).model, setup.tokenizer, folder.critic, of_critic)
                say(f"its critic, as a reward model: {folder.critic}")
            say(f"report: {write_report([folder.path], folder.report)}")


def _test(setup: Setup, path: Path, version: int) -> None:
    """The test split's metrics; in the last file also what they were before training, and the baselines."""
    splits, world = setup.splits, setup.world
    if not len(splits.test):
        return
    found = test_of(setup.source.evaluate("test", version, lambda done: None))
    if not world.main:
        return
    before = path.with_name(BEFORE)
    if path != before:
        found |= {"before": json.loads(before.read_text())} if before.exists() else {}
        found |= {"baselines": _baselines(setup)} if setup.recipe.logging.baselines else {}
    _write_json(path, found)


def _baselines(setup: Setup) -> dict[str, Any]:
    splits = setup.splits
    assert setup.recipe.logging.baselines == ["bag_of_words"]
    estimate, hits = bag_of_words(splits.train, splits.validation, splits.test)
    return {"bag_of_words_accuracy": dataclasses.asdict(estimate) | {"rows": hits}}


def test_of(found: Evaluation) -> dict[str, Any]:
    return {n: dataclasses.asdict(e) | {"rows": found.per_row.get(n, [])} for n, e in found.estimates.items()}


def _show_completions(setup: Setup, written: CompletionsLog | None, step: int, version: int) -> None:
    """`version` is the step whose weights write; another than the last one where the best evaluation is kept."""
    made = setup.source.show(step, version)
    if written is not None and written.last_step < step:
        written.append(made)


def _speaker(world: World) -> Callable[[str], Any]:
    return (lambda text: print(text, flush=True)) if world.main else (lambda text: None)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
