"""How many rows and optimiser steps a recipe makes of a data set: one arithmetic for what is told and what is done."""

from __future__ import annotations

from align.data.mixture import steps_of
from align.methods.base import OnlineMethod
from align.recipe.load import Recipe


def total_rows(recipe: Recipe, num_rows: int) -> int:
    """Rows that are trained on; a share of an epoch, however small, is one row at least. Where the last step would have
    fewer than the method compares, it takes them from the epoch that would follow."""
    training = recipe.training
    if training.max_steps:
        return training.max_steps * training.batch_size
    total = max(1, round(num_rows * training.num_train_epochs))
    rest = total % training.batch_size
    return total + max(0, recipe.method.smallest_batch - rest) if rest else total


def steps_of_experience(recipe: Recipe) -> int:
    """Optimiser steps on one experience."""
    if isinstance(recipe.method, OnlineMethod):
        return recipe.rollout.lasting(recipe.training.batch_size)
    return recipe.training.num_minibatches


def count_steps(recipe: Recipe, num_rows: int) -> int:
    training = recipe.training
    if training.max_steps or not isinstance(recipe.method, OnlineMethod):
        return training.max_steps or steps_of(total_rows(recipe, num_rows), training.batch_size)
    num_prompts = recipe.rollout.num_prompts or training.batch_size
    return steps_of_experience(recipe) * steps_of(total_rows(recipe, num_rows), num_prompts)
