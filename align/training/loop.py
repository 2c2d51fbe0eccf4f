"""The loop of every run: one optimiser step for each portion of experience, wherever that comes from.

    experience -> one step -> log -> evaluate -> save

It names no method, and does not know whether the rows were there before or have just been written. What is done in each
place stands a floor down: `offline` and `online` make the experience, `step`, `evaluate`, `snapshot` do the rest.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from align.errors import Elsewhere, RunError, Stopped
from align.methods.hooks import answered
from align.monitors.alarms import Alarms
from align.monitors.display import Display
from align.monitors.trackers import Tracker
from align.monitors.watch import Watch, told_to
from align.needs import LEARNS, SOURCES, TRAIN
from align.runfolder import checkpoint
from align.runfolder.commits import Commits
from align.runfolder.logs import CompletionsLog, MetricsLog, peak_memory_mb
from align.scoring.experience import Batching
from align.training import snapshot
from align.training.critic import Warmup
from align.training.evaluate import is_best
from align.training.optim import Schedule
from align.training.portion import ExperienceSource, Portion
from align.training.settings import TrainingSection
from align.training.snapshot import Progress
from align.training.step import Diverged, StepResult, train_step
from align.training.team import Team
from align.world.distributed import World
from align.world.signals import StopRequest
from align.world.stages import doing

SHOWN = 8  # rows that an error names
CURE = (
    "Lower optim.learning_rate (or optim.max_grad_norm), or look at these rows. Then --resume --allow-changes "
    "optim.learning_rate goes on, or --resume PATH from an earlier checkpoint (or a new run) where the weights were "
    "spoilt before"
)


@dataclass(frozen=True)
class Training:
    """Everything that the loop sequences."""

    team: Team
    batching: Batching
    source: ExperienceSource
    rates: Mapping[str, Schedule]  # of each learner, the policy first
    warmup: Warmup | None  # of a critic that is a model of its own
    num_steps: int
    settings: TrainingSection
    root: Any  # Path of checkpoints/
    log: MetricsLog | None  # of the main process
    written: CompletionsLog | None  # likewise
    trackers: Sequence[Tracker]
    display: Display
    round_steps: int = 0  # of a round, at whose end there is an evaluation; 0: the method has none
    identity: Mapping[str, Any] = field(default_factory=dict)  # what a checkpoint says that it is of
    stop: StopRequest = field(default_factory=StopRequest)
    alarms: Alarms = field(default_factory=Alarms)
    commits: Commits = field(default_factory=Commits)
    watch: Watch | None = None  # on every process, or on none

    @property
    def world(self) -> World:
        return self.batching.world


def take_steps(run: Training, progress: Progress) -> Progress:
    """Goes on from `progress` to the last step. Raises Stopped when asked to stop, after saving."""
    saved = progress.step
    if run.watch is not None and run.world.main:
        run.watch.began(progress.step, run.num_steps)
    with run.stop.patiently() as stop, run.commits.ended():
        if progress.owed:
            _conclude(run, progress, dict(progress.owed), stop)
        while progress.step < run.num_steps and not progress.ended_early:
            started = time.perf_counter()
            rates = _rates(run, progress)
            try:
                portion, result = _step(run, progress, rates)
            except RunError as error:
                if progress.step > saved and not (isinstance(error, Diverged) and error.spoilt):
                    _save(run, progress, last=True)
                if isinstance(error, Diverged):
                    run.world.fail(_diverged(run, progress, error))
                raise
            if run.log is not None:
                run.log.about(result.about)
            row = {**portion.metrics, **_row(progress, result, time.perf_counter() - started, rates)}
            progress.step += 1
            progress.num_tokens += result.num_tokens
            if _conclude(run, progress, row, stop):
                saved = progress.step
    return progress


def _conclude(run: Training, progress: Progress, row: dict[str, float | int], stop: StopRequest) -> bool:
    """What follows a step: its evaluation, its line, a checkpoint where one is due; True where one was saved.

    An evaluation that fails is owed: the checkpoint says so, and who goes on from there begins with it.
    """
    again, improved = bool(progress.owed), False
    failure: Exception | None = None
    try:
        improved = _evaluate(run, progress, row)
    except RunError as error:
        failure = error
    failure = _tell(run, progress.step, row) or failure
    enough, blamed = told_to(run.watch, run.world, progress.step, row)
    progress.ended_early |= enough
    due = improved or again or _due(progress.step, run.settings.save_steps) or _finished(run, progress)
    if due:
        run.commits.join()
    failure = failure or blamed or run.commits.failure()
    halt = run.world.any(stop.asked or failure is not None)
    failed = halt and run.world.any(failure is not None)
    if due or halt:
        _save(run, progress, last=halt or _finished(run, progress))
    if failed:
        raise failure or Elsewhere("another process could not tell of this step; the state after it is kept")
    if halt:
        raise Stopped(f"stopped by {stop.by or 'another process'} after step {progress.step}; go on with --resume")
    return due or halt


def _tell(run: Training, step: int, row: Mapping[str, float | int]) -> RunError | None:
    """To the log and to whoever looks on. What the log refuses is returned, so that the step can be saved first."""
    try:
        if run.log is not None:
            run.log.append(step, row)
    except RunError as error:
        return error
    for tracker in run.trackers:
        tracker.log(step, row)
    run.display.step(step, row)
    for sentence in run.alarms.look(row):
        run.display.say(f"warning: step {step}: {sentence}")
    return None


def _step(run: Training, progress: Progress, rates: Mapping[str, float]) -> tuple[Portion, StepResult]:
    alone, team = LEARNS not in rates, run.team
    with answered(f"step {progress.step + 1}"), doing("learning", progress.step + 1):
        team.move("before writing", progress.step)
        portion = run.source.next(progress)
        team.move("before learning", progress.step)
        method = portion.method.critic_alone() if alone else portion.method
        streams = {TRAIN: portion.experience, **portion.beside}
        lessons, tugs = team.lessons(method, rates), team.tugs(method)
        result = train_step(team.learners, lessons, streams, run.batching, rates, tugs)
        if team.sources is not None:
            team.sources.update(method.source_slopes(result.metrics), rates[SOURCES])
        team.move("after step", progress.step)
    progress.critic_steps += alone
    if run.warmup is not None and progress.step < run.warmup.steps:
        progress.value_losses += [result.metrics["value"]] if "value" in result.metrics else []
        if "explained_variance" in portion.metrics:
            progress.explained_variances.append(portion.metrics["explained_variance"])
    return portion, result


def _rates(run: Training, progress: Progress) -> dict[str, float]:
    """The learning rate of everyone who learns in this step. The policy's schedule begins with its own first one."""
    step, warmup = progress.step, run.warmup
    alone = warmup is not None and warmup.alone(step, progress.value_losses, progress.explained_variances)
    return {n: rate(step, progress.critic_steps) for n, rate in run.rates.items() if not (alone and n == LEARNS)}


def _diverged(run: Training, progress: Progress, error: Diverged) -> str:
    kept = "the last checkpoint is kept" if error.spoilt else f"the state after step {progress.step} is kept"
    where = _places(run.source.place_of[error.stream], error.rows)
    return f"step {progress.step + 1}: {error}, in {where}. {CURE}; {kept if progress.step else 'no step was made'}"


def _places(place_of: Callable[[int], str], rows: Sequence[int]) -> str:
    more = f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
    return f"{len(rows)} row{'s' if len(rows) != 1 else ''} ({'; '.join(place_of(i) for i in rows[:SHOWN])}{more})"


def _row(progress: Progress, result: StepResult, seconds: float, rates: Mapping[str, float]) -> dict[str, float | int]:
    beside = {f"{name}_learning_rate": rate for name, rate in rates.items() if name != LEARNS and rate}
    return result.metrics | {
        "grad_norm": result.grad_norm,
        "num_tokens": progress.num_tokens + result.num_tokens,
        "tokens_per_second": result.num_tokens / seconds,
        "memory_mb": peak_memory_mb(),
        "learning_rate": rates.get(LEARNS, 0.0),
    } | beside  # fmt: skip


def _evaluate(run: Training, progress: Progress, row: dict[str, float | int]) -> bool:
    """Adds held-out metrics to the row where they are due; True when they are the best so far."""
    progress.owed = {}
    every = (run.settings.eval_steps, run.round_steps, run.num_steps)
    due = any(_due(progress.step, steps) for steps in every)
    if not due or not (rows := run.source.held_out("validation")):
        return False
    progress.owed = {name: value if isinstance(value, int) else float(value) for name, value in row.items()}
    with answered(f"step {progress.step}"), doing(what := "evaluating"), run.display.during(what, len(rows)) as tick:
        found = run.source.evaluate("validation", progress.step, tick)
    progress.owed = {}
    if wrong := [n for n, e in found.estimates.items() if not math.isfinite(e.value)]:
        values = found.per_row.get(wrong[0], [])
        odd = [i for i, value in zip(rows, values, strict=False) if not math.isfinite(value)]
        where = _places(run.source.place_of["validation"], odd)
        finding = f"{wrong[0]} on the validation split is not finite, in {where}"
        run.world.fail(f"step {progress.step}: {finding}. {CURE}; the state after this step is kept")
    row |= found.flat("eval")
    improved = is_best(run.settings, progress, found)
    run.display.samples(found.completions)
    if run.written is not None and not _finished(run, progress):  # the last ones are those of the weights that are kept
        run.written.append(found.completions)
    return improved


def _save(run: Training, progress: Progress, *, last: bool) -> None:
    """The last one, and one that somebody is told of, is waited for until it stands; others become checkpoints beside
    the steps that follow."""
    logs = [log for log in (run.log, run.written) if log is not None]
    for log in logs:
        log.sync()
    about = snapshot.About(run.identity, {log.path.name: log.mark() for log in logs})
    best = progress.best_step if run.settings.load_best_model_at_end else None

    def beside(commit: Callable[[], Any]) -> None:
        run.commits.begin(lambda: (commit(), checkpoint.prune(run.root, run.settings.save_total_limit, best)))

    run.commits.join()
    if failure := run.commits.failure():  # this one stands for it
        run.display.say(f"warning: {failure}")
    saved = snapshot.save(run.root, run.team, progress, run.source.state(progress), about, beside)
    if last or run.watch is not None:
        with run.world.main_first():
            run.commits.wait()
    if run.watch is not None and run.world.main:
        run.watch.saved(progress.step, saved)


def _due(step: int, every: float) -> bool:
    return every > 0 and step % every == 0


def _finished(run: Training, progress: Progress) -> bool:
    return progress.step >= run.num_steps or progress.ended_early
