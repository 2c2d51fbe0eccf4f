"""Runs whose method moves weights between steps: a target that follows, trial steps that are undone, a jump ahead."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from small_runs import BRIEF, FRESH, assert_resumes, lines, same, train, weights, write_recipe

from align.cli.main import main
from align.runfolder.fragments import Saved
from align.runfolder.state_files import load_state

METHODS = '''
from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from align.batches import Rollouts, Sampled, Sequences, Demonstrations
from align.methods.base import Loss, OfflineMethod, OnlineMethod, metric, per_token, reinforce_loss
from align.needs import Move, Pull


@dataclass(frozen=True, kw_only=True)
class Targeted(Sampled):
    target_logps: Float[Tensor, "B T"]


@dataclass(frozen=True, kw_only=True)
class Game(OnlineMethod[Rollouts[Targeted]]):
    name = "game"
    paper = ""

    kappa: float = 0.5
    name_of_copy: str = "target"
    writes: str = ""

    def moves(self):
        return (
            Move(self.name_of_copy, "average", when="after step", rate=self.kappa),
            Move("policy", "take", when="before learning", every=2, at=0),
            Move("policy", "put back", when="before learning", every=2, at=1),
        )

    def writers(self):
        return (self.writes,) if self.writes else ()

    def advantages(self, rollouts):
        return per_token(rollouts, rollouts.rewards - rollouts.rewards.mean() + 0.1)

    def loss(self, batch):
        written = batch.completion
        apart = metric((written.target_logps - written.sampler_logps).abs(), written.mask)
        return reinforce_loss(batch).report({"apart": apart})


@dataclass(frozen=True, kw_only=True)
class Jumping(OfflineMethod[Demonstrations[Sequences]]):
    name = "jumping"
    paper = ""

    alpha: float = 0.5
    tries: bool = False

    def moves(self):
        jump = Move("policy", "extrapolate", when="after step", rate=self.alpha, every=2, at=1)
        return (jump, Move("policy", "take", when="before learning")) if self.tries else (jump,)

    def loss(self, batch):
        completion = batch.completion
        return Loss(-(completion.logps * completion.mask).sum(-1))
'''
PULLED = '''

@dataclass(frozen=True, kw_only=True)
class Pulled(OfflineMethod[Demonstrations[Sequences]]):
    name = "pulled"
    paper = ""

    rate: float = 3.0
    follows: bool = False

    def moves(self):
        return (Move("anchor", "average", when="after step", rate=0.5),) if self.follows else ()

    def pulls(self):
        return (Pull("anchor", self.rate),)

    def loss(self, batch):
        completion = batch.completion
        return Loss(-(completion.logps * completion.mask).sum(-1))
'''
TRAINING = {"batch_size": 2, "max_steps": 4, "save_steps": 1, "save_total_limit": 9, "eval_steps": 0}
GAME = {
    "method": {"name": "our_moves:Game"}, "model": FRESH,
    "data": {"train": "asset:story_openings/train.jsonl", "num_rows": 8, "max_length": 64, "test": 0, "validation": 0},
    "rollout": {"num_generations": 2, "max_completion_length": 4, "record": True},
    "reward": {"functions": [{"name": "length", "settings": {"target": 3}}]},
    "training": TRAINING, "logging": BRIEF, "optim": {"learning_rate": 1e-2, "lr_scheduler_type": "constant"},
}  # fmt: skip
JUMPING = {
    **{key: GAME[key] for key in ("model", "data", "training", "logging", "optim")},
    "method": {"name": "our_moves:Jumping"},
    "data": {
        "train": "asset:polite_pairs/train.jsonl", "num_rows": 8, "max_length": 512, "bad_rows": "drop", "test": 0,
        "validation": 0, "columns": {"prompt": "{instruction}\n{input}", "completion": "{chosen}"},
    },
}  # fmt: skip


@pytest.fixture(autouse=True)
def ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    (tmp_path / "our_moves.py").write_text(METHODS + PULLED)
    sys.modules.pop("our_moves", None)
    yield
    sys.modules.pop("our_moves", None)


def at(run: Path, step: int) -> Path:
    return run / "checkpoints" / f"step-{step:06d}"


def counted(run: Path, step: int) -> set[float]:
    return {float(of["others"]["step"]) for of in load_state(at(run, step) / "state-00000.pt")["fragments"]}


def test_a_target_follows_and_trials_are_undone_and_a_resumed_run_is_the_same(tmp_path: Path):
    recipe = write_recipe(tmp_path / "game.yaml", GAME)
    run = train(recipe, tmp_path / "run")
    logged = lines(run / "metrics.jsonl")
    assert logged[0]["apart"] < 1e-4, "it begins as the policy"
    assert all(line["apart"] > 1e-3 for line in logged[1:])
    assert [counted(run, step) for step in (1, 2, 3, 4)] == [{1.0}, {1.0}, {2.0}, {2.0}], "a real step counts once"
    policy = [Saved(at(run, step) / "state", 0).whole() for step in (1, 2)]
    target = [Saved(at(run, step) / "target" / "weights", 0).whole() for step in (1, 2)]
    for name, followed in target[1].items():
        torch.testing.assert_close(followed, target[0][name].lerp(policy[1][name], 0.5))
    assert any(not torch.equal(new, policy[0][name]) for name, new in policy[1].items())
    for step in (1, 2, 3):  # after a trial it is undone by what the checkpoint holds
        assert_resumes(str(recipe), run, tmp_path, step)


def test_a_jump_goes_on_from_solution_to_solution(tmp_path: Path):
    recipe = write_recipe(tmp_path / "jumping.yaml", JUMPING)
    run, plain = train(recipe, tmp_path / "run"), train(recipe, tmp_path / "plain", "method.alpha=0")
    hats = [Saved(at(plain, 2) / "state", 0).whole(), Saved(at(run, 2) / "state", 0).whole()]
    start = Saved(at(run, 2) / "start", 0).whole("start")
    first = load_file(run / "init" / "model.safetensors")
    for name, hat in hats[0].items():
        assert torch.equal(start.get(name, hat), hat), "the next one begins at the solution"
        if (before := first.get(name.removeprefix("model."))) is not None:
            torch.testing.assert_close(hats[1][name], hat + 0.5 * (hat - before))
    assert len(start) == len(first)
    assert_resumes(str(recipe), run, tmp_path, 2)
    assert_resumes(str(recipe), run, tmp_path, 3)
    assert weights(run).keys() == weights(plain).keys()


SGD = {
    "optim": "SGD", "learning_rate": 1e-2, "lr_scheduler_type": "constant", "weight_decay": 0.0, "max_grad_norm": 0.0,
}  # fmt: skip


@pytest.mark.parametrize("follows", [False, True])
def test_a_pull_is_towards_its_anchor(follows: bool, tmp_path: Path):
    """Plain gradient steps: the run with a pull parts from the one without by what the distance says, step by step."""
    recipe = {**JUMPING, "method": {"name": "our_moves:Pulled", "follows": follows}, "optim": SGD}
    recipe["data"] = {**JUMPING["data"], "num_rows": 2}  # the same rows in every step
    path = write_recipe(tmp_path / "pulled.yaml", recipe)
    run = train(path, tmp_path / "run")
    free = train(path, tmp_path / "free", "method.rate=0")
    first = {f"model.{n}": w for n, w in load_file(run / "init" / "model.safetensors").items()}
    policy = [Saved(at(run, step) / "state", 0).whole() for step in (1, 2)]
    assert same(policy[0], Saved(at(free, 1) / "state", 0).whole()), "it begins at its anchor"
    without = Saved(at(free, 2) / "state", 0).whole()
    for name, was in first.items():
        anchor = was.lerp(policy[0][name], 0.5) if follows else was
        wanted = without[name] - 1e-2 * 3.0 * (policy[0][name] - anchor)
        torch.testing.assert_close(policy[1][name], wanted, rtol=1e-5, atol=1e-7)
        assert (policy[1][name] - without[name]).abs().max() > 1e-6
        saved = Saved(at(run, 1) / "anchor" / "weights", 0).whole()
        torch.testing.assert_close(saved[name], anchor)
    for step in (1, 2):
        assert_resumes(str(path), run, tmp_path, step)
    assert not (run / "copies").exists(), "an anchor is none of the results"


@pytest.mark.parametrize(
    ("recipe", "words", "told"),
    [
        (GAME, ("method.name_of_copy=old",), "moves a copy old; the copies that it reads a column of are: target"),
        (GAME, ("model.roles={target: 'asset:stories260k'}",), "target is a copy of the policy, which game moves"),
        (GAME, ("method.kappa=1.5", "model.dtype=bfloat16", "optim.masters=true"), "the rate 1.5; expected 0 to 1"),
        (GAME, ("method.writes=rival",), "asks rival to write, and moves no copy of that name"),
        (JUMPING, ("model.lora={r: 2, use_dora: true}",), "a jump of what DoRA scales (model.lora.use_dora) has no"),
        (JUMPING, ("method.name=our_moves:Pulled", "method.rate=-1"), "a pull towards anchor has the rate -1"),
        (JUMPING, ("method.name=our_moves:Pulled", "model.lora={r: 2}"), "an adapter's are a product, whose slope"),
        (JUMPING, ("model.lora={r: 2}", "method.tries=true"), "extrapolates an adapter and has other moves of it"),
    ],
)
def test_moves_that_cannot_be_made_are_told(
    recipe: dict[str, Any], words: tuple[str, ...], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = write_recipe(tmp_path / "r.yaml", recipe)
    assert main(["check", str(path), *words]) == 2
    assert told in capsys.readouterr().err
