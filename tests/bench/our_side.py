"""Our side of a case: the trainer's own pieces, put together as `align.assembly` does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from align.batches import Group, Tokens
from align.methods.base import find_method
from align.models.frozen import frozen_copy
from align.models.load import load_policy
from align.models.settings import ModelSection
from align.models.tokenizer import load_tokenizer
from align.training.build import choose_layout, frozen, kernel_of, limits_of, make_trainee
from align.training.distributed import join
from align.training.experience import ModelRole, Reader, gather_experience
from align.training.roles import cached
from align.training.settings import OptimSection, TrainingSection
from align.training.step import train_step
from tests.bench.cases import Case, Row
from tests.bench.clock import Clock, Seconds

METHODS = {"dpo": "dpo", "sft": "sft", "reward": "reward_model"}


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
        self.world = join(optim := OptimSection())
        settings = TrainingSection(**options)
        section = ModelSection(model_name_or_path=str(folder))
        head = "scalar" if case.kind == "reward" else "lm"
        tokenizer = load_tokenizer(section, head)
        policy = load_policy(section, tokenizer, head, folder)
        kernel = kernel_of(policy.to(self.world.device), settings, self.world.device)
        self.trainee = make_trainee(policy, kernel, optim, settings, self.world)
        self.method = find_method(METHODS[case.kind])()
        self.needs = self.method.needs()
        self.groups = [_group(row, i) for i, row in enumerate(rows)]
        self.notes: list[str] = []
        limits = limits_of(policy, settings, self.world)
        choice = choose_layout(self.trainee, self.needs, self.groups, settings, limits, self.notes.append)
        self.reader = Reader(self.needs, choice.layout, limits, self.world)
        self.notes.append(f"layout {choice.layout}, {len(self.reader.mine(self._plan()))} micro-batches")
        self.roles: dict[str, Any] = {}
        if "ref" in self.needs.roles():
            copy = frozen_copy(section, tokenizer, "lm", folder)
            reference = frozen(copy, kernel, self.world)
            file = folder / f"ref-{case.name}-{choice.layout}.f32"
            made = cached(file, reference, self.reader, Store(self.groups), case.batch_size) if case.cached else None
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
        for micro, made in self.reader.score_all(self.trainee.module, self.groups, asked):
            for k, name in enumerate(members):
                for row, i in enumerate(micro.groups):
                    values = made[name][column][row].reshape(-1)
                    kept = self.groups[i].members[k].mask if column == "logps" else [True]
                    found[name, i] = values[: len(kept)][torch.as_tensor(kept)].tolist()
        return [found[name, i] for name in members for i in range(len(self.groups))]

    def train(self, wait: Callable[[], bool], done: Callable[[Seconds], None]) -> None:
        """A step each time that `wait` says True."""
        while wait():
            clock = Clock(self.world.device)
            experience = gather_experience(self.reader, self.groups, self.roles, self.method)
            train_step(self.trainee, self.method, experience, self.reader, 1e-6)
            done(clock.read())

    def _plan(self) -> Any:
        return self.reader.plan(self.groups, list(self.needs.members))


def _group(row: Row, index: int) -> Group:
    prompt = np.array(row.prompt, dtype=np.int32)
    members = [Tokens(prompt, np.array(c, dtype=np.int32), np.ones(len(c), dtype=bool)) for c in row.completions]
    return Group(tuple(members), {}, index)
