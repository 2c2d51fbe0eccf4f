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

from align.errors import Lost, Mistakes, RunError
from align.methods.hooks import answered
from align.models.save import save_final
from align.monitors.display import Display
from align.monitors.trackers import check_trackers, no_telemetry, open_trackers
from align.monitors.watch import Watch
from align.needs import CRITIC
from align.recipe.load import Recipe
from align.recipe.notes import what_lacks
from align.recipe.steps import count_steps
from align.report.page import write as write_report
from align.run.assemble import Begun, Setup, assemble, make_run
from align.run.resume import Resume, begin
from align.run.told import beginning, ending
from align.run.twin import clipped, learned
from align.runfolder import checkpoint
from align.runfolder.folder import BEFORE, ONLOOKER, PATIENCE, RunFolder, Trust
from align.runfolder.logs import CompletionsLog
from align.system.files import write_json
from align.system.terminal import say
from align.training import snapshot
from align.training.baselines import bag_of_words
from align.training.loop import take_steps
from align.training.member_files import whole_weights
from align.training.snapshot import Progress
from align.training.step import Trainee
from align.world.distributed import World, join, lost
from align.world.heartbeat import ANOTHER, Heartbeat, attempt_folder, new_attempt
from align.world.here import attempt
from align.world.pulse import pulse
from align.world.signals import StopRequest, stoppable
from align.world.stages import doing


def train(
    recipe: Recipe, resume: Resume | None = None, trust: Trust | None = None, stop: StopRequest | None = None,
    watch: Watch | None = None,
) -> None:  # fmt: skip
    """Runs a recipe to its report. Raises Stopped after SIGTERM or SIGINT, RunError for a run that failed."""
    with stoppable(stop) as stop:
        try:
            with answered():
                _joined(recipe, resume, trust, stop, watch)
        except Exception as error:
            if lost(error) and not stop.asked:
                raise Lost(f"{ANOTHER}; go on with --resume ({error})") from error
            raise


@dataclass(frozen=True)
class Onlookers:
    """Who may end the loop from beside it."""

    stop: StopRequest
    watch: Watch | None


def _joined(
    recipe: Recipe, resume: Resume | None, trust: Trust | None, stop: StopRequest, watch: Watch | None
) -> None:  # fmt: skip
    no_telemetry()
    transformers.utils.logging.disable_progress_bar()
    if found := [*check_trackers(recipe.logging.report_to), *what_lacks(recipe.model, recipe.optim)]:
        raise Mistakes(found)
    world = join(clipped(recipe).max_grad_norm, recipe.training.mixed_precision)
    folder = RunFolder(recipe.output_dir, trust)
    with pulse(world.rank, world.size) as beat:
        try:
            watched = world.size > 1 or bool(attempt())
            with world.main_first():
                if world.main:
                    folder.take(resume=resume is not None)
                    if watched:
                        new_attempt(folder.path)
            if watched:
                beat.keep(Heartbeat(attempt_folder(folder.path), world.rank, beat.every))
            _train(recipe, resume, world, folder, Onlookers(stop, watch))
        finally:
            if world.main:
                folder.release()


def _train(recipe: Recipe, resume: Resume | None, world: World, folder: RunFolder, beside: Onlookers) -> None:
    say = _speaker(world)
    for note in recipe.notes:
        say(note)
    with doing("loading models", 0):
        setup = assemble(recipe, world, folder, say)
        num_steps = count_steps(recipe, len(setup.splits.train))
        begun = begin(setup, resume, num_steps, say)
    say(beginning(setup, num_steps, begun.progress.step))
    with ExitStack() as opened:
        opened.callback(setup.source.close)
        for file in begun.logs:
            if file is not None:
                opened.callback(file.close)
        _steps(setup, begun, num_steps, opened, beside)


def _steps(setup: Setup, begun: Begun, num_steps: int, opened: ExitStack, beside: Onlookers) -> None:
    """From the first step to the report. What is opened here is closed by `opened`, however the run ends."""
    recipe, world, folder, progress, (_, written) = setup.recipe, setup.world, setup.folder, begun.progress, begun.logs
    say = _speaker(world)
    display = Display(
        num_steps,
        done=progress.step,
        num_tokens=progress.num_tokens,
        logging_steps=recipe.logging.logging_steps,
        main=world.main,
    )
    trackers = (
        open_trackers(recipe.logging.report_to, folder.path, recipe.to_dict(), done=progress.told) if world.main else []
    )
    for tracker in trackers:
        opened.callback(tracker.close)
    with display:
        loop = make_run(setup, num_steps, begun, trackers, display, beside.watch)
        if progress.step == 0:
            _show_completions(setup, written, 0, 0)
            _test(setup, folder.path / BEFORE, 0)
        with doing("between steps"):
            progress = take_steps(dataclasses.replace(loop, stop=beside.stop), progress)
    _finish(setup, written, _outcome(setup, begun.identity["run"], progress, num_steps), say)


# ---- after the last step --------------------------------------------------------------------------------------------


def _outcome(setup: Setup, name: str, progress: Progress, num_steps: int) -> dict[str, Any]:
    """Puts the weights of the best evaluation back where the recipe asks for them; says how the run ended."""
    training, folder, say = setup.recipe.training, setup.folder, _speaker(setup.world)
    kept = progress.step
    ended_by = _ended_by(training.early_stopping_patience, progress)
    if ended_by == PATIENCE:
        bad = progress.bad_evaluations
        say(f"ended early: {bad} evaluations without improvement on step {progress.best_step}")
    elif ended_by:
        say("ended early: by who looks on")
    if training.load_best_model_at_end and progress.best_step >= 0:
        kept = progress.best_step
        best = checkpoint.folder(folder.checkpoints, kept)
        with setup.world.main_first():
            if setup.world.main:
                _require_whole(best, name)
        setup.team.read(best)
        say(f"final/ holds step {kept}, the best evaluation")
    of_best = {"best_step": progress.best_step, "best_value": progress.best_value} if progress.best_step >= 0 else {}
    return {
        "step": progress.step,
        "num_steps": num_steps,
        "ended_early": progress.ended_early,
        "final_step": kept,
    } | ({"ended_by": ended_by} if ended_by else {}) | of_best


def _ended_by(patience: int, progress: Progress) -> str:
    """Who ended the run before its last step; empty where nobody has."""
    if not progress.ended_early:
        return ""
    return PATIENCE if 0 < patience <= progress.bad_evaluations else ONLOOKER


def _require_whole(best: Path, name: str) -> None:
    """Of the run of this name."""
    problems = checkpoint.verify(best)
    if not problems and (found := snapshot.identity_of(best)) and found.get("run") != name:
        problems = [f"{snapshot.IDENTITY}: another run wrote it, {found.get('run')}, and not this one, {name}"]
    if problems:
        raise RunError(
            f"{best}: holds the best evaluation's weights and is damaged: {'; '.join(problems)}. Put back what is "
            "wrong and go on with --resume; or take the last step's weights: --resume training.load_best_model_at_end="
            "false --allow-changes training.load_best_model_at_end"
        )


@doing("writing the final model")
def _finish(setup: Setup, written: CompletionsLog | None, outcome: dict[str, Any], say: Callable[[str], Any]) -> None:
    """outcome.json, final/, the test split, completions after training, the report."""
    world, folder = setup.world, setup.folder
    _show_completions(setup, written, outcome["step"], outcome["final_step"])
    _test(setup, folder.path / "test.json", outcome["final_step"])
    state, critic = whole_weights(setup.trainee), setup.team.learners.get(CRITIC)
    of_critic = whole_weights(critic) if critic else None
    of_copies = {name: whole_weights(copy) for name, copy in _followers(setup).items()}
    base = setup.recipe.model.model_name_or_path
    with world.main_first():
        if world.main:
            write_json(folder.path / "outcome.json", outcome)
            save_final(setup.model, setup.tokenizer, folder.final, state, base_name=base)
            say(f"final model: {folder.final}")
            if critic:
                save_final(world.unwrap(critic.module).model, setup.tokenizer, folder.critic, of_critic)
                say(f"its critic, as a reward model: {folder.critic}")
            for name, copy in _followers(setup).items():
                model = world.unwrap(copy.module).model
                save_final(model, setup.tokenizer, folder.copies / name, of_copies[name], base_name=base)
                say(f"its copy {name}, of the same step: {folder.copies / name}")
            if sources := setup.team.sources:
                write_json(folder.sources, learned(setup.recipe, sources, outcome["final_step"]))
                say(f"weights of the sources: {folder.sources}")
            say(f"report: {write_report([folder.path], folder.report)}")


def _followers(setup: Setup) -> dict[str, Trainee]:
    """The copies that the policy is compared with, which may be the better end of a run; not those that only write."""
    asked = setup.recipe.method.needs().roles()
    copies = {name: module for name, module in setup.team.copies.items() if name in asked}
    return {name: dataclasses.replace(setup.trainee, module=module) for name, module in copies.items()}


@doing("evaluating")
def _test(setup: Setup, path: Path, version: int) -> None:
    """The test split's metrics; in the last file also what they were before training, and the baselines."""
    splits, world = setup.splits, setup.world
    if not len(splits.test):
        return
    found = setup.source.evaluate("test", version, lambda done: None).told()
    if not world.main:
        return
    before = path.with_name(BEFORE)
    if path != before:
        found |= _measured_before(before)
        found |= {"baselines": _baselines(setup)} if setup.recipe.logging.baselines else {}
        for line in ending(found, setup.recipe.training.metric_for_best_model):
            say(line)
    write_json(path, found)


def _measured_before(path: Path) -> dict[str, Any]:
    try:
        return {"before": json.loads(path.read_text(encoding="utf-8"))} if path.exists() else {}
    except ValueError as error:
        say(f"{path}: is damaged ({error}), so that test.json does not say what was measured before training")
        return {}


def _baselines(setup: Setup) -> dict[str, Any]:
    splits = setup.splits
    assert setup.recipe.logging.baselines == ["bag_of_words"]
    estimate, hits = bag_of_words(splits.train, splits.validation, splits.test)
    return {"bag_of_words_accuracy": dataclasses.asdict(estimate) | {"rows": hits}}


@doing("showing completions")
def _show_completions(setup: Setup, written: CompletionsLog | None, step: int, version: int) -> None:
    """`version` is the step whose weights write; another than the last one where the best evaluation is kept."""
    made = setup.source.show(step, version)
    if written is not None and written.last_step < step:
        written.append(made)


def _speaker(world: World) -> Callable[[str], Any]:
    return say if world.main else (lambda text: None)
