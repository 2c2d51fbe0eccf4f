"""What a step learns from, and where that comes from: all that the loop knows of data and of completions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from align.runfolder.logs import Completion
from align.scoring.experience import Experience
from align.training.evaluate import Evaluation
from align.training.snapshot import Progress


@dataclass(frozen=True)
class Portion:
    """What one optimiser step learns from."""

    experience: Experience
    method: Any  # with the controllers' values of now
    metrics: Mapping[str, float] = field(default_factory=dict)  # told beside the step's own
    beside: Mapping[str, Experience] = field(default_factory=dict)  # of other streams of rows, by their names


@dataclass(frozen=True)
class Past:
    """Of whom a run goes on that is resumed."""

    changed: bool = False  # it had another recipe, data, weights or world
    foreign: bool = False  # its checkpoint stands in another run's folder


@runtime_checkable
class ExperienceSource(Protocol):
    """Where experience comes from."""

    @property
    def place_of(self) -> Mapping[str, Callable[[int], str]]:
        """Split -> row of the prepared data -> its file and row there."""
        ...

    def held_out(self, split: str) -> Sequence[int]:
        """The rows of `validation` or `test` that `evaluate` goes through, in order."""
        ...

    def next(self, progress: Progress) -> Portion:
        """For the step after `progress`; called once for each."""
        ...

    def evaluate(self, split: str, version: int, tick: Callable[[int], Any]) -> Evaluation:
        """By the weights of now; `version` is the number of steps that made them."""
        ...

    def show(self, step: int, version: int) -> list[Completion]:
        """Greedy completions of a few held-out prompts, the same each time, after `step` by the weights of `version`;
        on the main process."""
        ...

    def state(self, progress: Progress) -> Any:
        """What a checkpoint must hold of an experience that is not learned to its end; None of a finished one."""
        ...

    def close(self) -> None:
        """Ends what was started for it."""
        ...

    def restore(self, progress: Progress, state: Any, past: Past) -> None:
        """Goes on from a checkpoint of `progress` with what `state` gave (None: nothing), or from the first step; what
        later steps have left in the run folder is not found again."""
        ...
