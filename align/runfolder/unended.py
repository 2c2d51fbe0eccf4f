"""A run that has not come to its end: the checkpoints that may stand for its model."""

from __future__ import annotations

from pathlib import Path

from align.runfolder.checkpoint import checkpoints, step_of


def is_unended(run: Path) -> bool:
    """Whether a folder is a run's that has no `final/` yet."""
    return (run / "recipe.yaml").is_file() and not (run / "final").is_dir()


def newest_first(run: Path) -> list[Path]:
    """Its checkpoints, good or damaged."""
    return checkpoints(run / "checkpoints")[::-1]


def taken(run: Path, path: Path) -> str:
    """What is said where a checkpoint stands for its run."""
    return f"{run} has no final/ yet; its newest good checkpoint is taken, that of step {step_of(path)}"


def nothing_to_take(run: Path) -> str:
    """What is said where none can."""
    left = "none of its checkpoints is whole" if newest_first(run) else "it has no checkpoint yet"
    return (
        f"{run}: is the folder of a run that has not come to its end, so there is no final/ in it, and {left}. "
        f"Go on with it: align train {run} --resume"
    )
