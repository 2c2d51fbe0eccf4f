"""A critic that is a model of its own, beside the policy."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from align.errors import UserError
from align.models.embeddings import check_same_vocabulary
from align.models.load import load_policy, where
from align.models.save import fingerprint
from align.models.settings import CriticSection, ModelSection
from align.models.tokenizer import read_tokenizer, source_of
from align.needs import CRITIC
from align.recipe.load import Recipe
from align.run.parts import device_of
from align.training.build import kernel_of, make_trainee
from align.training.critic import VALUES, Warmup
from align.training.settings import OptimSection
from align.training.step import Trainee
from align.world.distributed import World


def make_critic(recipe: Recipe, world: World, tokenizer: Any, init: Path) -> tuple[dict[str, Trainee], str]:
    """The critic that the recipe asks for, by its name, and its fingerprint; nothing where it asks for none.

    The critic is a one-label classifier: a reward model as it is, a language model with a new head. Raises UserError.
    """
    critic = recipe.model.critic
    if critic is None:
        return {}, ""
    section = critic_section(recipe.model, critic)
    check_critic(section, critic, tokenizer)
    places = where(section, init)
    weights = world.once_per_machine(lambda: fingerprint(places.weights))
    world.must_agree("the critic's weights", weights)
    model = load_policy(section, tokenizer, "scalar", init, device_of(world))
    kernel = kernel_of(model, recipe.training, world.device)
    made = make_trainee(model, kernel, optim_of(recipe, critic), recipe.training, world)
    return {CRITIC: dataclasses.replace(made, only=(VALUES,))}, weights


def check_critic(section: ModelSection, critic: CriticSection, tokenizer: Any) -> None:
    """UserError where the critic reads other tokens than the policy, or is an adapter."""
    if section.config:
        return  # the policy's own, made for its tokenizer
    if name := critic.model_name_or_path:
        theirs = read_tokenizer(source_of(section), section.trust_remote_code)
        check_same_vocabulary(tokenizer, theirs, f"model.critic.model_name_or_path: {name}")
    if adapter := where(section, Path()).adapter:
        raise UserError(
            f"model.critic: {adapter} is an adapter, and a critic is trained whole; name a plain folder in "
            "model.critic.model_name_or_path, such as `align export` makes"
        )


def critic_section(model: ModelSection, critic: CriticSection) -> ModelSection:
    """As a model to be loaded."""
    section = dataclasses.replace(model, critic=None, lora=None, load_in_4bit=False)
    if not critic.model_name_or_path:
        return section
    return dataclasses.replace(
        section, model_name_or_path=critic.model_name_or_path, config={}, tokenizer_name_or_path="", add_tokens=[]
    )


def warmup_of(recipe: Recipe) -> Warmup | None:
    critic = recipe.model.critic
    return None if critic is None else Warmup(critic.warmup_steps, critic.warmup_flat)


def optim_of(recipe: Recipe, critic: CriticSection) -> OptimSection:
    return dataclasses.replace(recipe.optim, learning_rate=critic.learning_rate or recipe.optim.learning_rate)
