"""Our side of a case: the trainer's own pieces, put together as `align.run.assemble` does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from align.batches import Group, Tokens
from align.methods.base import find_method
from align.models.frozen import frozen_copy
from align.models.load import load_policy
from align.models.settings import ModelSection
from align.models.tokenizer import Head, load_tokenizer
from align.needs import LEARNS, TRAIN, Needs
from align.scoring.experience import Batching, Experience, ModelRole, gather_experience
from align.scoring.plan import Limits
from align.scoring.roles import cached
from align.scoring.score import Kernel
from align.training.build import DataSample, choose_layout, frozen, kernel_of, limits_of, make_trainee
from align.training.settings import OptimSection, TrainingSection
from align.training.step import StepResult, Trainee, train_step
from align.world.distributed import World, join
from tests.bench.cases import Case, Row
from tests.bench.clock import Clock, Seconds

METHODS = {"dpo": "dpo", "sft": "sft", "reward": "reward_model"}


@dataclass(frozen=True)
class Loaded:
    """A policy that can be trained, and what it was made with."""

    section: ModelSection
    settings: TrainingSection
    world: World
    tokenizer: Any
    kernel: Kernel
    limits: Limits
    trainee: Trainee

    @classmethod
    def of(cls, folder: Path, head: Head, options: dict[str, Any]) -> Loaded:
        optim = OptimSection()
        world, settings = join(optim.max_grad_norm), TrainingSection(**options)
        section = ModelSection(model_name_or_path=str(folder))
        tokenizer = load_tokenizer(section, head)
        policy = load_policy(section, tokenizer, head, folder)
        kernel = kernel_of(policy.to(world.device), settings, world.device)
        limits = limits_of(policy, settings, world)
        return cls(
            section, settings, world, tokenizer, kernel, limits, make_trainee(policy, kernel, optim, settings, world)
        )

    def batching(self, needs: Needs, picked: Sequence[Any], say: Callable[[str], Any]) -> Batching:
        """With the layout that is cheapest for sequences like `picked`."""
        choice = choose_layout([self.trainee], needs, DataSample(picked), self.settings, self.limits, say)
        return Batching(needs, choice.layout, self.limits, self.world)

    def step(self, method: Any, experience: Experience, batching: Batching, rate: float) -> StepResult:
        """Of the policy alone."""
        learners, rates = {LEARNS: self.trainee}, {LEARNS: rate}
        return train_step(learners, method.lessons(), {TRAIN: experience}, batching, rates)

    def reference(self, folder: Path) -> Any:
        return frozen(frozen_copy(self.section, self.tokenizer, "lm", folder), self.kernel, self.world)


class Store:
    """The rows as a prepared data set, which is what a cache is filled from."""

    def __init__(self, groups: Sequence[Group]):
        self.groups = groups

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, index: int) -> Group:
        return self.groups[index]

    def lengths(self, index: int) -> list[tuple[int, int]]:
        return [(len(m.prompt), len(m.completion)) for m in self.groups[index].members]


class OurSide:
    """Options: any keys of the recipe's section `training` (layout, max_tokens, mixed_precision, ...)."""

    def __init__(self, case: Case, rows: Sequence[Row], folder: Path, options: dict[str, Any]):
        self.case = case
        self.loaded = Loaded.of(folder, "scalar" if case.kind == "reward" else "lm", options)
        self.trainee = self.loaded.trainee
        self.method = find_method(METHODS[case.kind])()
        self.needs = self.method.needs()
        self.groups = [group_of(row, i) for i, row in enumerate(rows)]
        self.notes: list[str] = []
        self.batching = self.loaded.batching(self.needs, [g.members for g in self.groups], self.notes.append)
        layout = self.batching.layout
        self.notes.append(f"layout {layout}, {len(self.batching.mine(self._plan()))} micro-batches")
        self.roles: dict[str, Any] = {}
        if "ref" in self.needs.roles():
            reference = self.loaded.reference(folder)
            file = folder / f"ref-{case.name}-{layout}.f32"
            made = cached(file, reference, self.batching, Store(self.groups), case.batch_size) if case.cached else None
            self.roles["ref"] = made or ModelRole(reference)

    def tokens(self) -> list[list[int]]:
        """Every sequence, prompt and completion: all first members, then all second ones."""
        members = [group.members[k] for k in range(len(self.needs.members)) for group in self.groups]
        return [[*m.prompt.tolist(), *m.completion.tolist()] for m in members]

    def columns(self) -> list[list[float]]:
        """Log-probabilities of each sequence's learnt tokens (a reward model: its score), in the order of `tokens`."""
        column = "scores" if self.case.kind == "reward" else "logps"
        members = list(self.needs.members)
        asked = dict.fromkeys(members, (column,))
        found: dict[tuple[str, int], list[float]] = {}
        for micro, made in self.batching.score_all(self.trainee.module, self.groups, asked):
            for k, name in enumerate(members):
                for row, i in enumerate(micro.groups):
                    values = made[name][column][row].reshape(-1)
                    kept = self.groups[i].members[k].mask if column == "logps" else [True]
                    found[name, i] = values[: len(kept)][torch.as_tensor(kept)].tolist()
        return [found[name, i] for name in members for i in range(len(self.groups))]

    def train(self, wait: Callable[[], bool], done: Callable[[Seconds], None]) -> None:
        """A step each time that `wait` says True."""
        while wait():
            clock = Clock(self.loaded.world.device)
            experience = gather_experience(self.batching, self.groups, self.roles, self.method)
            self.loaded.step(self.method, experience, self.batching, 1e-6)
            done(clock.read())

    def _plan(self) -> Any:
        return self.batching.plan(self.groups, list(self.needs.members))


def group_of(row: Row, index: int) -> Group:
    prompt = np.array(row.prompt, dtype=np.int32)
    members = [Tokens(prompt, np.array(c, dtype=np.int32), np.ones(len(c), dtype=bool)) for c in row.completions]
    return Group(tuple(members), {}, index)
