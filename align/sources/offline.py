"""Experience from rows that exist before training: the next of them for every step.

next rows -> stored columns -> method.prepare
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from align.batches import Group
from align.runfolder.logs import Completion
from align.scoring.experience import Reader, Role, gather_experience
from align.training.evaluate import Evaluation, evaluate
from align.training.loop import Past, Portion
from align.training.snapshot import Progress
from align.training.step import Trainee


@dataclass(frozen=True)
class Offline:
    """The rows of a data set, as the source of a run's experience."""

    trainee: Trainee
    method: Any
    reader: Reader
    roles: Mapping[str, Mapping[str, Role]]  # split -> role -> who makes its columns
    rows_of_step: Callable[[int], Sequence[Group]]
    place_of: Mapping[str, Callable[[int], str]]
    portions: Mapping[str, Sequence[Sequence[Group]]]  # validation, test: rows in portions of a step's size
    complete: Callable[[int], list[Completion]]  # greedy completions of a few held-out prompts, after a step

    def held_out(self, split: str) -> Sequence[int]:
        return [group.index for portion in self.portions[split] for group in portion]

    def next(self, progress: Progress) -> Portion:
        groups = self.rows_of_step(progress.step)
        return Portion(gather_experience(self.reader, groups, self.roles["train"], self.method), self.method)

    def evaluate(self, split: str, version: int, tick: Callable[[int], Any]) -> Evaluation:
        return evaluate(self.trainee.module, self.method, self.portions[split], self.reader, self.roles[split], tick)

    def show(self, step: int, version: int) -> list[Completion]:
        return [dataclasses.replace(c, policy_version=version) for c in self.complete(step)]

    def state(self, progress: Progress) -> None:
        return None

    def close(self) -> None:
        pass

    def restore(self, progress: Progress, state: Any, past: Past) -> None:
        assert state is None, "rows that are there before training leave nothing to be restored"
