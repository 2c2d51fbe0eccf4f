"""`values/`: what a method believes states to be worth, beside what they are worth.

The truth of a state is the mean reward of many completions that begin from it, by the policy that wrote it, and is
never learned from. It is the task's reward alone: a method that charges for KL has values of something else.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from align.rollout.draws import seed_of
from align.rollout.settings import AuditSection
from align.rollout.writer import Job, Prompt, Seconds, Trajectory, Writer
from align.sources.harvest import Harvest, Harvester
from align.system.files import inner_folder, replace_file


@dataclass(frozen=True)
class Audited:
    """A state."""

    step: int  # optimiser steps of the policy
    row: int  # of the prepared data
    token: int  # how many tokens of the completion stand before it
    depth: int  # how many steps
    estimate: float
    value: float
    stderr: float  # of the value


@dataclass(frozen=True)
class Auditor:
    """Looks at some states of an experience, every so many experiences."""

    settings: AuditSection
    writer: Writer
    harvester: Harvester
    folder: Path

    def __call__(self, number: int, step: int, harvest: Harvest, prompts: Mapping[int, Prompt]) -> None:
        """All ranks take part; the main one writes the file."""
        if number % self.settings.every:
            return
        places = self._chosen(number, harvest.rows)
        if not places:
            return
        found: list[Audited] = []
        jobs = [self._job(harvest.rows[row], token, prompts) for row, token in places]
        written = [t for chunk in self.writer.chunks(jobs) for t in self.writer.write(chunk, step, Seconds())]
        rewards = self.harvester.rewards(written).view(len(places), -1)
        for (row, token), of_state in zip(places, rewards, strict=True):
            judged = of_state[~of_state.isnan()]
            if len(judged) > 1:
                t, estimate = harvest.rows[row], estimates_of(harvest.whole.batch)[row, token].item()
                spread = judged.std().item() / math.sqrt(len(judged))
                found.append(Audited(step, t.row, token, t.steps.index(token), estimate, judged.mean().item(), spread))
        if self.writer.world.main:
            inner_folder(self.folder)
            text = "".join(json.dumps(asdict(a)) + "\n" for a in found)
            replace_file(self.folder / f"{number:06d}.jsonl", text)

    def _chosen(self, number: int, rows: Sequence[Trajectory]) -> list[tuple[int, int]]:
        every = [(row, token) for row, t in enumerate(rows) if not t.auxiliary for token in t.steps]
        order = np.random.default_rng(seed_of(self.writer.seed, number, 1)).permutation(len(every))
        return [every[i] for i in sorted(order[: self.settings.num_states].tolist())]

    def _job(self, begun: Trajectory, token: int, prompts: Mapping[int, Prompt]) -> Job:
        first = (1 + (begun.place << 16) + token) << 20  # no training counts so far
        places = tuple(range(first, first + self.settings.num_samples))
        return Job(prompt=prompts[begun.number], places=places, auxiliary=True, begun=begun, given=token)


def estimates_of(batch: Any) -> Tensor:
    """(B, T): the critic's values, or what the method itself has found, at the states of an experience."""
    return batch.estimates if batch.stepwise else batch.completion.old_values
