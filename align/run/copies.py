"""Copies of the policy that follow it: the roles that a method's moves name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from align.models.load import load_policy
from align.needs import copies_of
from align.recipe.load import Recipe
from align.run.parts import head_of
from align.runfolder.state_files import seed_generators
from align.training.build import frozen, kernel_of
from align.training.moves import copy
from align.training.step import Trainee


def make_copies(recipe: Recipe, trainee: Trainee, tokenizer: Any, init: Path) -> dict[str, Any]:
    """Role -> the policy once more, as it is before the first step; of an adapter the base as well."""
    made: dict[str, Any] = {}
    world = trainee.world
    for role in copies_of(recipe.method):
        seed_generators(recipe.training.seed)  # a new adapter has its own names and shapes, and is drawn alike
        model = load_policy(recipe.model, tokenizer, head_of(recipe), init)
        made[role] = frozen(model, kernel_of(model.to(world.device), recipe.training, world.device), world)
        copy(made[role], trainee.module, world)
    return made
