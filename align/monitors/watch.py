"""Who looks on from Python while a run trains, and may end it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from align.errors import RunError
from align.outside import place_of
from align.world.distributed import World


class Watch:
    """Asked on the main process alone. What it raises ends the run, after the step that was made has been saved."""

    def began(self, step: int, num_steps: int) -> None:
        """Before the next step, where `step` of them are behind."""

    def step(self, step: int, row: Mapping[str, float | int]) -> bool:
        """After a step and its evaluation, with its line of metrics.jsonl. True: it is to be the last one."""
        return False

    def saved(self, step: int, folder: Path) -> None:
        """After a checkpoint."""


def told_to(
    watch: Watch | None, world: World, step: int, row: Mapping[str, float | int]
) -> tuple[bool, RunError | None]:  # fmt: skip
    """Whether the step is to be the last one, as all processes agree; and what the watch raised, on the main one."""
    enough, failure = False, None
    try:
        enough = watch is not None and world.main and watch.step(step, row)
    except Exception as error:  # whatever a user's function may raise
        failure = RunError(f"step {step}: who looks on has failed: {place_of(error)}; the state after it is kept")
        failure.__cause__ = error
    return watch is not None and world.any(enough), failure
