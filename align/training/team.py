"""Who learns in a run and who only follows, by name: what a checkpoint holds, and what moves between steps."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from align.errors import UserError
from align.models.ahead import jumps_of, put_ahead
from align.needs import LEARNS, SOURCES, Lesson, Move, When
from align.runfolder.fragments import Fragment, Saved, write
from align.runfolder.state_files import load_state, save_state
from align.scoring.experience import Columns
from align.training import member_files
from align.training.critic import Together
from align.training.moves import (
    Moments,
    Taken,
    anchor_of,
    average,
    copy,
    extrapolate,
    hat,
    jump,
    moments,
    put_back,
    put_moments,
    straight,
    take,
)
from align.training.pieces import at_rest, fragments, load_pieces, save_pieces
from align.training.slopes import Tug, pull_towards, together
from align.training.sources import SourceLogits
from align.training.step import Trainee
from align.world.distributed import World

WEIGHTS = "weights"  # file of a copy, in the folder of its name
MOVED = "moved"  # file of what moves remember
START = "start"  # file of where the next extrapolation begins
MOMENTS: tuple[str, ...] = get_args(When)  # of a step, in this order


@dataclass
class Team:
    """Learners, each with its optimiser, and copies of the policy that moves alone change."""

    learners: Mapping[str, Trainee]  # the policy first
    copies: Mapping[str, Any] = field(default_factory=dict)  # role -> prepared module
    moves: Sequence[Move] = ()
    lasting: int = 1  # steps of an experience, which some moves are counted in
    sources: SourceLogits | None = None  # where weights of sources are learned
    taken: dict[str, Taken] = field(default_factory=dict)  # learner -> what a trial step is to be undone to
    start: dict[str, Tensor] = field(default_factory=dict)  # where the next extrapolation begins
    done: tuple[int, int] = (-1, 0)  # step and place in MOMENTS of the last moves: a step that fails is made again
    fresh: Moments = field(init=False)  # of an optimiser that has made no step

    def __post_init__(self):
        self.fresh = moments(self.policy) if any(move.how == "begin again" for move in self.moves) else {}
        if any(move.how == "extrapolate" for move in self.moves) and not self.start:
            module, world = self.policy.module, self.world
            self.start = hat(module, world, straight(module, world, self.policy.changing))
            jump(module, world)

    @property
    def world(self) -> World:
        return self.policy.world

    @property
    def policy(self) -> Trainee:
        return self.learners[LEARNS]

    @property
    def columns(self) -> Columns:
        """The policy, and who makes columns beside it, as one model that answers with columns."""
        others = {column: t.module for t in self.learners.values() for column in t.only}
        return Together(self.policy.module, others) if others else self.policy.module

    def lessons(self, method: Any, rates: Collection[str]) -> list[Lesson]:
        """Of those that have a rate: the method's own; who makes columns beside the policy has the first, too."""
        first, *rest = method.lessons()
        beside = [replace(first, learner=name) for name, learner in self.learners.items() if learner.only]
        return [lesson for lesson in (first, *beside, *rest) if lesson.learner in rates]

    def move(self, when: When, step: int) -> None:
        """The moves of this moment, once; `step` of those before it are made."""
        now = (step, MOMENTS.index(when))
        if now <= self.done:
            return
        for move in self.moves:
            if move.when == when and move.due(step, self.lasting):
                self._make(move)
        self.done = now

    def _make(self, move: Move) -> None:
        policy, world = self.policy.module, self.world
        if move.how == "copy":
            copy(self.copies[move.role], policy, world, self.policy.changing)
        elif move.how == "average":
            average(self.copies[move.role], policy, world, move.rate, self.policy.changing)
        elif move.how == "extrapolate":
            self.start = extrapolate(policy, world, self.start, move.rate)
            jump(policy, world, move.rate)
        elif move.how == "take":
            self.taken = {name: take(learner) for name, learner in self.learners.items()}
        elif move.how == "begin again":
            put_moments(self.policy, self.fresh)
        else:
            for name, taken in self.taken.items():
                put_back(self.learners[name], taken)

    def tugs(self, method: Any) -> dict[str, Tug]:
        """Learner -> what pulls it in this step, as the method says."""
        policy, pulls = self.policy.module, [pull for pull in method.pulls() if pull.rate]
        anchors = {p.towards: anchor_of(self.copies[p.towards], policy, self.world) for p in pulls}
        return {LEARNS: together([pull_towards(anchors[p.towards], p.rate) for p in pulls])} if pulls else {}

    # ---- a checkpoint -----------------------------------------------------------------------------------------------

    def write(self, folder: Path) -> None:
        """The policy's files, and a folder for every other one; all ranks take part."""
        for name, learner in self.learners.items():
            member_files.write(folder if name == LEARNS else folder / name, learner)
        if self.sources is not None and self.world.main:
            self.sources.write(folder / SOURCES)
        for name, module in self.copies.items():
            save_pieces(folder / name / WEIGHTS, module, self.world, self._following(module))
        if self.moves:
            ahead = {name: vars(of) for name, of in jumps_of(self.world.unwrap(self.policy.module)).items()}
            if self.world.main or self.world.divides:
                write(folder / START, self.world.rank, self._start())
            state = {"taken": self.taken, "done": list(self.done), "ahead": ahead, "world": self._divided()}
            save_state(state, self._moved(folder, self.world.rank))

    def read(self, folder: Path) -> None:
        """UserError where one of the files is not there, or is of another model."""
        for name, learner in self.learners.items():
            member_files.read(folder if name == LEARNS else folder / name, learner)
        if self.sources is not None:
            self.sources.read(folder / SOURCES)
        for name, module in self.copies.items():
            load_pieces(folder / name / WEIGHTS, module, self.world, self._following(module))
        if self.moves:
            self._read_moved(folder)

    def _read_moved(self, folder: Path) -> None:
        file = self._moved(folder, self.world.rank)
        if not file.exists() and not (file := self._moved(folder, 0)).exists():
            raise UserError(f"{file}: is not there, and the method of this recipe moves weights")
        state, device = load_state(file), self.world.device
        if state["taken"] and state["world"] != self._divided():
            raise UserError(
                f"{folder}: stands between a trial step and its undoing, which only as many processes that divide "
                f"weights alike can go on with: {state['world']}, and these are {self._divided()}; name a checkpoint "
                "at the end of an experience by --resume PATH"
            )
        self.taken = _on(state["taken"], device)
        if start := self._start():
            saved = Saved(folder / START, self.world.rank)
            saved.refuse_lacking(saved.fill(start), len(start))
        self.done = (state["done"][0], state["done"][1])
        put_ahead(self.world.unwrap(self.policy.module), _on(state["ahead"], device))

    def _start(self) -> list[Fragment]:
        """Where the next extrapolation begins, in place."""
        found = fragments(self.policy.module, self.world, self.start.keys())
        return [replace(f, tensors={START: self.start[f.name].view(-1)[: f.count]}) for f in found]

    def _divided(self) -> str:
        return f"{self.world.size} x {self.world.sharding}"

    def _moved(self, folder: Path, rank: int) -> Path:
        return folder / f"{MOVED}-{rank:05d}.pt"

    def _following(self, module: Any) -> set[str]:
        """What of a copy ever differs from what it was made of."""
        return {name for name, _ in at_rest(module, self.world).named_parameters() if name in self.policy.changing}


def _on(state: Any, device: torch.device) -> Any:
    if isinstance(state, Tensor):
        return state.to(device)
    if isinstance(state, dict):
        return {key: _on(value, device) for key, value in state.items()}
    return [_on(value, device) for value in state] if isinstance(state, list) else state
