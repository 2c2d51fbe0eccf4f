"""Copies of an adapted policy, and its twin, are further adapters on one base, with the numbers of models apart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import BRIEF, FRESH, assert_resumes, metrics, same, train, weights, write_recipe, write_rows

from align.recipe.load import load_recipe
from align.run import copies
from align.run.assemble import Setup, assemble
from align.runfolder.folder import RunFolder
from align.runfolder.fragments import Saved
from align.world.distributed import join

LORA = {"r": 2, "lora_alpha": 4, "lora_dropout": 0.2}
TRAINING = {"batch_size": 4, "max_steps": 4, "save_steps": 1, "save_total_limit": 9, "eval_steps": 0}
OPTIM = {"learning_rate": 1e-2, "lr_scheduler_type": "constant"}
JUDGE = '''
from align.rewards.pairwise.oracle import win_rates
import numpy as np


def judge(prompts, completions, completion_ids, written_by=(), **columns):
    worth = np.array([sum(ids) % 7 for ids in completion_ids])
    return win_rates(0.5 + 0.5 * np.sign(worth[:, None] - worth), [who != "policy" for who in written_by])


judge.compares = "prompt"
'''


@pytest.fixture
def recipes(tmp_path: Path, own_module: Callable[[str, str], None]) -> dict[str, Path]:
    own_module("judge_of_copies", JUDGE)
    rows = {
        kind: write_rows(
            tmp_path / f"{kind}.jsonl",
            [{"prompt": f"{kind} {i}", "completion": "one two" * (1 + i % 3)} for i in range(9)],
        )
        for kind in ("a", "b", "good")
    }
    common = {"model": {**FRESH, "lora": LORA}, "optim": OPTIM, "training": TRAINING, "logging": BRIEF}
    nash = {
        "method": {"name": "nash_mp", "form": "two_step", "target_every": 2},
        "data": {"train": write_rows(tmp_path / "rows.jsonl", [{"prompt": p} for p in ("One", "Two", "A", "The")])},
        "rollout": {"num_generations": 3, "max_completion_length": 4},
        "reward": {"functions": ["judge_of_copies:judge"]},
    }  # fmt: skip
    levels = {
        "method": {"name": "scalebio", "weights_rate": 0.1, "trusted_rows": 3},
        "data": {"train": [{"source": rows["a"]}, {"source": rows["b"]}], "trusted": rows["good"], "max_length": 64},
    }
    return {
        name: write_recipe(tmp_path / f"{name}.yaml", {**common, **sections})
        for name, sections in (("nash_mp", nash), ("scalebio", levels))
    }


def others(setup: Setup) -> dict[str, Any]:
    learners = {name: learner.module for name, learner in setup.team.learners.items() if name != "policy"}
    return {name: setup.world.unwrap(module) for name, module in {**setup.team.copies, **learners}.items()}


@pytest.mark.parametrize(("name", "beside"), [("nash_mp", {"opponent", "target"}), ("scalebio", {"twin"})])
def test_the_base_is_in_memory_once(name: str, beside: set[str], recipes: dict[str, Path], tmp_path: Path):
    setup = assemble(load_recipe(str(recipes[name])), join(1.0), RunFolder(tmp_path / "run"), lambda text: None)
    found = others(setup)
    assert found.keys() == beside
    mine = dict(setup.policy.named_parameters())
    for module in found.values():
        theirs = dict(module.named_parameters())
        assert theirs.keys() == mine.keys()
        shared = {name for name, p in theirs.items() if p.data_ptr() == mine[name].data_ptr()}
        assert shared == {name for name in mine if "lora_" not in name}
        assert all(torch.equal(p, mine[name]) for name, p in theirs.items())
        assert module.model is not setup.model
        assert module.model.get_base_model().config is not setup.model.get_base_model().config
    whole = [p for module in (setup.policy, *found.values()) for p in module.parameters()]
    held = sum({p.data_ptr(): p.numel() for p in whole}.values())
    factors = sum(p.numel() for name, p in mine.items() if "lora_" in name)
    assert held == sum(p.numel() for p in mine.values()) + len(found) * factors


@pytest.mark.parametrize("name", ["nash_mp", "scalebio"])
def test_numbers_are_those_of_models_that_are_loaded_apart(
    name: str, recipes: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = train(recipes[name], tmp_path / "run")
    for step in (1, 2, 3):
        assert_resumes(str(recipes[name]), run, tmp_path, step)
    asked: list[Any] = []

    def apart(model: Any, own: Any) -> Any:
        asked.append(model)
        return real(recipe, tokenizer=tokenizer, init=tmp_path / "apart" / "init")

    def real(recipe: Any, tokenizer: Any, init: Path) -> Any:
        copies.seed_generators(recipe.training.seed)
        return copies.load_policy(recipe.model, tokenizer, copies.head_of(recipe), init)

    recipe = load_recipe(str(recipes[name]))
    from align.models.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(recipe.model)
    monkeypatch.setattr(copies, "beside", apart)
    other = train(recipes[name], tmp_path / "apart")
    assert asked
    assert same(weights(run), weights(other))
    assert metrics(run) == metrics(other)


def test_a_twin_learns_an_adapter_of_its_own(recipes: dict[str, Path], tmp_path: Path):
    """The base is nobody's to change, and the twin parts from the policy."""
    run = train(recipes["scalebio"], tmp_path / "run")
    first, last = (Saved(run / f"checkpoints/step-00000{n}/twin/state", 0).whole() for n in (1, 4))
    policy = Saved(run / "checkpoints/step-000004/state", 0).whole()
    factors = [name for name in policy if "lora_B" in name]
    assert any(not torch.equal(last[n], first[n]) for n in factors)
    assert any(not torch.equal(last[n], policy[n]) for n in factors)
