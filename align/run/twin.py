"""What a method over two levels has beside the policy: its twin and the logits of the sources; everyone's rates."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from align.data.prepare import Splits
from align.data.settings import DataSource
from align.needs import CRITIC, LEARNS, SOURCES, TWIN
from align.recipe.load import Recipe
from align.recipe.steps import steps_of_experience
from align.run.copies import another
from align.run.critic import optim_of
from align.scoring.routing import settle_router
from align.training.build import kernel_of, make_trainee
from align.training.moves import copy
from align.training.optim import Schedule, learning_rate, rate_in_rounds, rate_of_learner
from align.training.settings import OptimSection
from align.training.sources import SourceLogits, effective_number, source_logits
from align.training.step import Trainee


def clipped(recipe: Recipe) -> OptimSection:
    """The section as models learn by it: gradients that are larger by a factor are clipped at a norm larger by it."""
    levels = recipe.method.levels()
    scale = 1.0 if levels is None else levels.scale
    return dataclasses.replace(recipe.optim, max_grad_norm=scale * recipe.optim.max_grad_norm)


def make_twin(recipe: Recipe, policy: Trainee, tokenizer: Any, init: Path) -> dict[str, Trainee]:
    """A copy of the policy that learns, by its name; nothing where the method has none."""
    if recipe.method.levels() is None:
        return {}
    model = another(recipe, policy, tokenizer, init)
    kernel = kernel_of(model, recipe.training, policy.world.device)
    twin = make_trainee(model, kernel, _optim_of_twin(recipe), recipe.training, policy.world)
    copy(twin.module, policy.module, policy.world)
    if twin.masters is not None:
        twin.masters.begin_anew()
    return {TWIN: settle_router(twin, recipe.model)}


def make_sources(recipe: Recipe, splits: Splits) -> SourceLogits | None:
    levels = recipe.method.levels()
    return None if levels is None else source_logits(splits.names, recipe.optim, levels.weights_rate)


def learned(recipe: Recipe, sources: SourceLogits, step: int) -> dict[str, Any]:
    """`sources.json`: each source as the recipe names it, with its weight after this step."""
    train, shares = recipe.data.train, sources.shares()
    listed = [DataSource(source=train)] if isinstance(train, str) else train
    rows = [
        {"name": name, "source": s.source, "split": s.split, "columns": s.columns, "weight": weight}
        for name, s, weight in zip(sources.names, listed, shares, strict=True)
    ]
    return {"step": step, "effective_sources": effective_number(shares), "sources": rows}


def rates_of(recipe: Recipe, num_steps: int) -> dict[str, Schedule]:
    """The learning rate of everyone who learns, of a step."""
    in_rounds = rate_in_rounds(recipe.optim, steps_of_experience(recipe)) if recipe.method.rounds else None
    found: dict[str, Schedule] = {LEARNS: in_rounds or rate_of_learner(recipe.optim, num_steps)}
    if recipe.model.critic is not None:
        found[CRITIC] = _whole(optim_of(recipe, recipe.model.critic), num_steps)
    if (levels := recipe.method.levels()) is not None:
        found[TWIN] = _whole(_optim_of_twin(recipe), num_steps)
        found[SOURCES] = _whole(dataclasses.replace(recipe.optim, learning_rate=levels.weights_rate), num_steps)
    return found


def _optim_of_twin(recipe: Recipe) -> OptimSection:
    levels, section = recipe.method.levels(), clipped(recipe)
    assert levels is not None
    return dataclasses.replace(section, learning_rate=levels.twin_rate or section.learning_rate)


def _whole(section: OptimSection, num_steps: int) -> Schedule:
    """Of one that learns in every step."""
    rate = learning_rate(section, num_steps)
    return lambda step, idle: rate(step)
