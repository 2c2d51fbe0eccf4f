"""A run whose reward, environment and method draw from the global generators is one run of its seed all the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from small_runs import assert_resumes, metrics, run, same, weights

CHANCE = '''
import dataclasses
import random
from dataclasses import dataclass

import numpy as np

from align.methods.base import Loss
from align.methods.grpo import GRPO


def dice(prompts, completions, **columns):
    return [random.random() + np.random.random() for _ in completions]


def ask(prompt, text, columns):
    return random.choice([" Then what?", " And she", None])


def cut(text):
    return sorted({0, random.randrange(len(text)), len(text)})


@dataclass(frozen=True, kw_only=True)
class Noisy(GRPO):
    """Weighs its loss by a number that it draws (of numpy's: the tests' type checker draws python's)."""

    name = "noisy"

    def loss(self, batch):
        found = super().loss(batch)
        terms = {n: dataclasses.replace(t, values=t.values * np.random.random()) for n, t in found.terms.items()}
        return Loss(None, **terms)
'''
RECIPE = {
    "method": {"name": "chance:Noisy"},
    "model": {"model_name_or_path": "asset:stories260k"},
    "data": {"train": "asset:story_openings/train.jsonl", "validation": 0.1, "num_rows": 40, "max_length": 64},
    "rollout": {
        "num_generations": 2, "max_completion_length": 12, "max_rows": 4, "environment": "chance:ask", "max_turns": 3,
        "stop_strings": [" "],
    },
    "reward": {"functions": ["chance:dice"]},
    "optim": {"learning_rate": 1.0e-3},
    "training": {"batch_size": 4, "max_steps": 4, "save_steps": 1, "save_total_limit": 9, "eval_steps": 2},
    "logging": {"num_completions": 2, "max_completion_length": 8},
}  # fmt: skip


def test_two_runs_of_one_seed_are_the_same(tmp_path: Path, own_module: Callable[[str, str], None]):
    own_module("chance", CHANCE)
    whole, again = (run(tmp_path / name, RECIPE) for name in ("whole", "again"))
    assert metrics(whole) == metrics(again)
    assert same(weights(whole), weights(again))
    assert (whole / "completions.jsonl").read_text() == (again / "completions.jsonl").read_text()
    assert metrics(run(tmp_path / "other", RECIPE, "training.seed=2", "training.max_steps=1")) != metrics(whole)[:1]
    assert_resumes(str(tmp_path / "whole.yaml"), whole, tmp_path, 2, without=["rollouts"])
