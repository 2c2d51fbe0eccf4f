"""Experience from rows that exist before training: the next of them, for one or several steps.

    next rows -> stored columns -> method.prepare -> minibatches, in the order of the rows

An experience begins at each multiple of `num_minibatches` steps. What is being learned from is part of every checkpoint
that is taken before its end, for the policy that made its columns is gone by then.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from align.batches import Group
from align.runfolder.logs import Completion
from align.scoring.experience import Batching, Role, gather_experience
from align.sources.buffer import Buffer
from align.training.controllers import Remembered, recalling, remembered_of
from align.training.evaluate import Evaluation, evaluate
from align.training.portion import Past, Portion
from align.training.snapshot import Progress
from align.training.step import Trainee


@dataclass
class Offline:
    """The rows of a data set, as the source of a run's experience."""

    trainee: Trainee
    method: Any
    batching: Batching
    roles: Mapping[str, Mapping[str, Role]]  # split -> role -> who makes its columns
    rows_of_step: Callable[[int], Sequence[Group]]
    place_of: Mapping[str, Callable[[int], str]]
    portions: Mapping[str, Sequence[Sequence[Group]]]  # validation, test: rows in portions of a step's size
    complete: Callable[[int], list[Completion]]  # greedy completions of a few held-out prompts, after a step
    num_minibatches: int = 1  # steps that an experience lasts
    buffer: Buffer | None = None
    remembered: Remembered = field(default_factory=dict)  # by the method, of the experiences so far

    def held_out(self, split: str) -> Sequence[int]:
        return [group.index for portion in self.portions[split] for group in portion]

    def next(self, progress: Progress) -> Portion:
        number, at = divmod(progress.step, self.num_minibatches)
        if self.buffer is None or self.buffer.number != number or at >= len(self.buffer.steps):
            self.buffer = self._experience(number, progress)
        return self.buffer.portion(at, self.method)

    def _experience(self, number: int, progress: Progress) -> Buffer:
        """From the next step on: where an earlier end of the run has cut an experience short, its rest is one."""
        parts = [self.rows_of_step(step) for step in self._steps(progress)]
        controllers = dict(progress.controllers)
        method = recalling(self.method, controllers)
        groups = [group for part in parts for group in part]
        experience = gather_experience(self.batching, groups, self.roles["train"], method)
        self.remembered = progress.controllers = controllers | remembered_of(method, experience.batch)
        over: list[list[int]] = [[] for _ in range(progress.step % self.num_minibatches)]
        ends = itertools.accumulate(len(part) for part in parts)
        rows = [list(range(end - len(part), end)) for part, end in zip(parts, ends, strict=True)]
        return Buffer(number, experience, [over + [step for step in rows if step]], controllers, {})

    def _steps(self, progress: Progress) -> range:
        """Those of the experience that are not made yet."""
        return range(progress.step, progress.step - progress.step % self.num_minibatches + self.num_minibatches)

    def evaluate(self, split: str, version: int, tick: Callable[[int], Any]) -> Evaluation:
        method = recalling(self.method, self.remembered)
        return evaluate(self.trainee.module, method, self.portions[split], self.batching, self.roles[split], tick)

    def show(self, step: int, version: int) -> list[Completion]:
        return [dataclasses.replace(c, policy_version=version) for c in self.complete(step)]

    def state(self, progress: Progress) -> Any:
        """Also before the first step on an experience, where making it has changed what the method remembers."""
        number, at = divmod(progress.step, self.num_minibatches)
        buffer = self.buffer
        if buffer is None or buffer.number != number or at >= len(buffer.steps) or not (at or progress.controllers):
            return None
        return {"buffer": buffer.state()}

    def close(self) -> None:
        pass

    def restore(self, progress: Progress, state: Any, past: Past) -> None:
        """What is learned from stays what it was, unless the rows of its next steps are others now."""
        self.remembered = progress.controllers
        if state is None:
            return
        buffer, at = Buffer.restored(state["buffer"], self.batching), progress.step % self.num_minibatches
        found = [[buffer.experience.groups[i].index for i in rows] for rows in buffer.steps[at:]]
        wanted = [[group.index for group in self.rows_of_step(step)] for step in self._steps(progress)]
        if buffer.number == progress.step // self.num_minibatches and found == wanted[: len(found)]:
            self.buffer = buffer
