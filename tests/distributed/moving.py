"""Weights moved in every way on a tiny model, as the processes of a launch do it; the tests compare what it leaves."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

sys.path.append(str(Path(__file__).parents[1] / "helpers"))

from bench_of_steps import learn, random_groups, tiny_llama

from align.methods.sft import SFT
from align.models import ahead
from align.models.adapters import new_adapter
from align.models.ahead import jumps_of
from align.models.embeddings import whole as of_all_ranks
from align.models.settings import LoraSection
from align.models.sources import whole_weights
from align.needs import BEGIN_AGAIN, Move, Pull
from align.scoring.experience import Batching, gather_experience
from align.scoring.plan import Limits
from align.scoring.score import Kernel
from align.training import moves, snapshot
from align.training.build import frozen, make_trainee
from align.training.pieces import at_rest
from align.training.settings import OptimSection, TrainingSection
from align.training.snapshot import Progress
from align.training.team import Team
from align.world.distributed import World

KERNEL = Kernel("sdpa")
OPTIM = OptimSection(learning_rate=1e-2, adam_epsilon=1e-3, weight_decay=0.1)
TEAM = (
    Move("policy", "take", when="before learning"),
    Move("target", "average", when="after step", rate=0.5),
    Move("policy", "extrapolate", when="after step", rate=0.2),
    Move("policy", "put back", when="before writing"),
)
LAYER = "model.model.layers.0."
Weights = dict[str, torch.Tensor]


def model(seed: int) -> Any:
    with whole_weights():  # drawn as in one process
        return tiny_llama("lm", seed, 61)


def whole(module: Any, world: World) -> Weights:
    """Every weight, gathered, on every rank."""
    found: Weights = {}
    for name, p in at_rest(module, world).named_parameters():
        found[name] = of_all_ranks(p).cpu()
    return found


def same(one: Weights, other: Weights) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


class Bench:
    """A policy that learns from rows of its own for every step, and keeps its weights in files by name."""

    def __init__(self, world: World, folder: Path, policy: Any = None):
        self.world, self.folder, self.steps = world, folder, 0
        self.method = SFT()
        self.trainee = make_trainee(policy or model(0), KERNEL, OPTIM, TrainingSection(), world)
        self.batching = Batching(self.method.needs(), "padded", Limits(60, 1000, world.size), world)

    def learn(self, pull: Any = None) -> None:
        experience = gather_experience(self.batching, random_groups(self.method, 7, self.steps), {}, self.method)
        learn(self.trainee, self.method, experience, self.batching, 1e-2, pull)
        self.steps += 1

    def look(self) -> None:
        """Passes without a backward one, after which shards may stay whole."""
        groups = random_groups(self.method, 4)
        for _ in self.batching.score_all(self.trainee.module, groups, {"completion": ("logps",)}):
            pass

    def weights(self) -> Weights:
        return whole(self.trainee.module, self.world)

    def keep(self, name: str, weights: Weights | None = None) -> None:
        found = self.weights() if weights is None else weights
        if self.world.main:
            save_file(found, self.folder / f"{name}.safetensors")


def go(world: World, folder: Path) -> dict[str, bool]:
    """Leaves a file of weights for each move, and tells which promises of bitwise equality were kept."""
    if world.main:
        folder.mkdir()
    world.barrier()
    bench, kept = Bench(world, folder), dict[str, bool]()
    for act in (_copied, _averaged, _extrapolated, _tried, _pulled, _rested, _resumed, _in_rounds, _jumped):
        act(bench, kept.__setitem__)
    return kept


Tell = Callable[[str, bool], Any]


def _target(bench: Bench) -> Any:
    return frozen(model(1), KERNEL, bench.world)


def _copied(bench: Bench, tell: Tell) -> None:
    bench.learn()
    bench.look()
    target = _target(bench)
    moves.copy(target, bench.trainee.module, bench.world)
    tell("copied", same(whole(target, bench.world), bench.weights()))
    bench.learn()
    moves.copy(bench.trainee.module, target, bench.world)  # the other way, over what has learned
    tell("copied back", same(whole(target, bench.world), bench.weights()))
    bench.learn()
    bench.keep("copied")


def _averaged(bench: Bench, tell: Tell) -> None:
    target = _target(bench)
    for _ in range(2):
        bench.learn()
        bench.look()
        moves.average(target, bench.trainee.module, bench.world, 0.3)
    bench.keep("averaged", whole(target, bench.world))


def _extrapolated(bench: Bench, tell: Tell) -> None:
    before = moves.hat(bench.trainee.module, bench.world)
    for _ in range(2):
        bench.learn()
        bench.look()
        before = moves.extrapolate(bench.trainee.module, bench.world, before, 0.5)
        bench.learn()
    bench.keep("extrapolated")


def _tried(bench: Bench, tell: Tell) -> None:
    taken, was, steps = moves.take(bench.trainee), bench.weights(), bench.steps
    bench.learn()
    once = bench.weights()
    bench.look()
    moves.put_back(bench.trainee, taken)
    tell("put back", same(bench.weights(), was) and not same(once, was))
    bench.steps = steps
    bench.learn()
    tell("the step again is the same step", same(bench.weights(), once))
    bench.keep("tried")


def _pulled(bench: Bench, tell: Tell) -> None:
    """Towards a copy, as a method declares it: as it was, and then as it follows."""
    target = _target(bench)
    moves.copy(target, bench.trainee.module, bench.world)
    follow = Move("target", "average", when="after step", rate=0.3)
    team = Team({"policy": bench.trainee}, {"target": target}, (follow,))
    for step in range(3):
        bench.look()
        bench.learn(team.tugs(Pulled())["policy"])
        team.move("after step", step)
    bench.keep("pulled")


class Pulled(SFT):
    def pulls(self) -> tuple[Pull, ...]:
        return (Pull("target", 5.0),)


def _jumped(bench: Bench, tell: Tell) -> None:
    """An adapter's product, with a round's new moments and a checkpoint between its jumps."""
    other = Bench(bench.world, bench.folder / "adapter", adapted())
    jump = Move("policy", "extrapolate", when="before writing", rate=0.3, unit="experience")
    team = Team({"policy": other.trainee}, moves=(jump, BEGIN_AGAIN), lasting=2)
    for step in range(6):
        team.move("before writing", step)
        if step == 4:
            was, ahead = other.weights(), jumps_of(at_rest(other.trainee.module, bench.world))
            path = snapshot.save(other.folder, team, Progress(step=1))
            other.learn()
            team.move("before writing", 6)
            other.steps -= 1
            snapshot.restore(path, team)
            again = jumps_of(at_rest(other.trainee.module, bench.world))
            tell("its jumps are saved", same(other.weights(), was) and all(
                torch.equal(of.up, again[name].up) and torch.equal(of.down, again[name].down)
                for name, of in ahead.items()
            ))  # fmt: skip
        other.look()
        other.learn()
    found = jumps_of(at_rest(other.trainee.module, bench.world))
    tell("it has jumped twice", all(len(of.down) == 6 for of in found.values()) and len(found) == 14)
    bench.keep("jumped", other.weights() | {f"{n} ahead": (of.up @ of.down).cpu() for n, of in found.items()})


def adapted() -> Any:
    with whole_weights():
        made = new_adapter(tiny_llama("lm", 0, 61), LoraSection(r=3, lora_alpha=6), ())
    ahead.prepare(made)
    return made


def _rested(bench: Bench, tell: Tell) -> None:
    """A layer that rests while a checkpoint is written and read."""
    _switch(bench, on=False)
    path = snapshot.save(bench.folder, Team({"policy": bench.trainee}), Progress(step=1))
    was, steps = bench.weights(), bench.steps
    _switch(bench, on=True)
    bench.learn()
    once = bench.weights()
    bench.learn()
    _switch(bench, on=False)
    snapshot.restore(path, Team({"policy": bench.trainee}))
    _switch(bench, on=True)
    tell("saved while it rests", same(bench.weights(), was))
    bench.steps = steps
    bench.learn()
    tell("learned on from there", same(bench.weights(), once))


def _resumed(bench: Bench, tell: Tell) -> None:
    """A team whose target follows and whose trial step is under way goes on from a checkpoint."""
    team = Team({"policy": bench.trainee}, {"target": _target(bench)}, TEAM)
    before = bench.weights()
    team.move("before learning", 0)
    bench.learn()
    team.move("after step", 0)
    path = snapshot.save(bench.folder, team, Progress(step=2))
    was, followed, start = bench.weights(), whole(team.copies["target"], bench.world), team.start
    bench.learn()
    team.move("after step", 1)
    tell("moved on", not same(followed, whole(team.copies["target"], bench.world)))
    team.taken, team.start = {}, {}
    snapshot.restore(path, team)
    tell("resumed", same(bench.weights(), was) and same(whole(team.copies["target"], bench.world), followed))
    tell("jumps on from the same", same(team.start, start))
    team.move("before writing", 1)
    tell("undone after a resume", same(bench.weights(), before))


def _in_rounds(bench: Bench, tell: Tell) -> None:
    """Three rounds of two steps, and a checkpoint where the moments are those of a new optimiser."""
    jump = Move("policy", "extrapolate", when="before writing", rate=0.3, unit="experience")
    team = Team({"policy": bench.trainee}, moves=(jump, BEGIN_AGAIN), lasting=2)
    for step in range(6):
        team.move("before writing", step)
        if step == 4:
            was = bench.weights()
            path = snapshot.save(bench.folder, team, Progress(step=3))
            bench.learn()
            once = bench.weights()
            bench.steps -= 1
            snapshot.restore(path, team)
            tell("saved as the round begins", same(bench.weights(), was) and not same(was, once))
        bench.learn()
        if step == 4:
            tell("the round begins likewise", same(bench.weights(), once))
        bench.look()
    bench.keep("rounds")


def _switch(bench: Bench, *, on: bool) -> None:
    for name, p in at_rest(bench.trainee.module, bench.world).named_parameters():
        if name.startswith(LAYER):
            p.requires_grad_(on)
