"""Whether a run has ended, goes on, or was stopped, and how far it has come."""

from __future__ import annotations

from enum import Enum

from align.report.folder import Run


class State(Enum):
    """What a page says beside its title."""

    ENDED = ""
    GOES_ON = "goes on"
    STOPPED = "stopped"
    UNKNOWN = "no step yet"


def state_of(run: Run) -> State:
    """By outcome.json, which is written at the end, and by who holds the folder."""
    if run.outcome:
        return State.ENDED
    if run.held_by:
        return State.GOES_ON
    return State.STOPPED if run.steps else State.UNKNOWN


def progress(run: Run) -> str:
    """`at step 12 of 40`; without the number of steps `at step 12, in epoch 1.2 of 3`."""
    at = f"at step {run.last_step:,}"
    training = run.recipe.get("training")
    settings = training if isinstance(training, dict) else {}
    steps, epochs, epoch = settings.get("max_steps"), settings.get("num_train_epochs"), run.curve("epoch")
    if isinstance(steps, int) and steps > 0:
        return f"{at} of {steps:,}"
    return f"{at}, in epoch {epoch[-1][1]:.2g} of {epochs:g}" if epoch and isinstance(epochs, int | float) else at


def standing(run: Run) -> str:
    """`stopped at step 12 of 40`; empty where it has ended, or not begun."""
    state = state_of(run)
    return f"{state.value} {progress(run)}" if state in (State.GOES_ON, State.STOPPED) else ""
