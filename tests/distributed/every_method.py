"""Every registered method takes three steps on a tiny model, is saved after two of them, and takes the third again.

One engine serves all methods that want the same kind of policy: each begins at the same weights, without moments.
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "helpers"))

import torch
from bench_of_steps import Rig, head_of, learn, random_groups, tiny_llama
from moving import Weights, same, whole
from safetensors.torch import save_file

from align.methods.base import Method
from align.methods.lookup import find, method_names
from align.models.adapters import new_adapter
from align.models.settings import LoraSection
from align.models.sources import whole_weights
from align.needs import LEARNS
from align.scoring.experience import Batching, ModelRole
from align.scoring.plan import Limits
from align.scoring.role_table import named_by
from align.scoring.score import Kernel
from align.training import moves, snapshot
from align.training.build import frozen, make_trainee
from align.training.settings import OptimSection, TrainingSection
from align.training.snapshot import Progress
from align.training.step import Trainee
from align.training.team import Team
from align.world.distributed import World

KERNEL = Kernel("sdpa")
OPTIM = OptimSection(learning_rate=1e-2, adam_epsilon=1e-3, weight_decay=0.1)  # rounding stays small in Adam
RATE = 1e-2
ROWS = 9


class Bench:
    """Policies and frozen models, made once for each kind."""

    def __init__(self, world: World, folder: Path):
        self.world, self.folder = world, folder
        self.policy = cache(self._policy)
        self.frozen = cache(self._frozen)

    def _policy(self, head: str, valued: bool, lora: bool) -> tuple[Trainee, moves.Taken]:
        with whole_weights():
            model = tiny_llama(head, 0)
            model = new_adapter(model, LoraSection(r=4, lora_alpha=8), ()) if lora else model
        trainee = make_trainee(model, KERNEL, OPTIM, TrainingSection(), self.world, value_head=valued)
        return trainee, moves.take(trainee)

    def _frozen(self, head: str, seed: int) -> Any:
        with whole_weights():
            return frozen(tiny_llama(head, seed), KERNEL, self.world)

    def rig(self, method: Any, lora: bool) -> Rig:
        needs, head = method.needs(), head_of(method)
        valued = any("values" in needs.live(m) for m in needs.members)
        trainee, start = self.policy(head, valued, lora)
        moves.put_back(trainee, start)
        others = {role: self.frozen(head, 2 + n) for n, role in enumerate(named_by(needs))}
        roles = {role: ModelRole(m) for role, m in ({"ref": self.frozen(head, 1)} | others).items()}
        batching = Batching(needs, "padded", Limits(60, 1000, self.world.size), self.world)
        return Rig(method, trainee, batching, roles | {"old": ModelRole(trainee.module)})


def go(world: World, folder: Path) -> dict[str, Any]:
    """For each method what its steps told, and whether the third was the same after a restore; weights in files."""
    if world.main:
        folder.mkdir()
    world.barrier()
    bench, told = Bench(world, folder), dict[str, Any]()
    for name in method_names():
        method = find(name, Method)()
        rig = bench.rig(method, lora=False)
        losses, weights = _steps(rig, range(2)), whole(rig.trainee.module, world)
        path = snapshot.save(folder / name, Team({LEARNS: rig.trainee}), Progress(step=2))
        losses += _steps(rig, range(2, 3))
        last = _kept(bench, name, rig)
        snapshot.restore(path, Team({LEARNS: rig.trainee}))
        back = same(whole(rig.trainee.module, world), weights)
        _steps(rig, range(2, 3))
        again = same(whole(rig.trainee.module, world), last)
        adapted = bench.rig(method, lora=True)
        of_adapter = _steps(adapted, range(3))
        _kept(bench, f"{name}_lora", adapted)
        told[name] = {"steps": losses, "lora": of_adapter, "back": back, "again": again}
    return told


def _steps(rig: Rig, numbers: range) -> list[tuple[float, float]]:
    """Loss and gradient norm of each."""
    made: list[tuple[float, float]] = []
    for number in numbers:
        experience = rig.experience(random_groups(rig.method, ROWS, number))
        result = learn(rig.trainee, rig.method, experience, rig.batching, RATE)
        made.append((result.metrics["loss"], result.grad_norm))
    return made


def _kept(bench: Bench, name: str, rig: Rig) -> Weights:
    found = whole(rig.trainee.module, bench.world)
    if bench.world.main:
        learned = {n: t for n, t in found.items() if n in rig.trainee.changing}
        save_file(learned, bench.folder / f"{name}.safetensors")
    torch.set_grad_enabled(True)
    return found
