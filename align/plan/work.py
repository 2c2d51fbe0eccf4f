"""A recipe in numbers: which models a rank has, and how many tokens go through them at once and in a step."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

from align.errors import UserError
from align.models.settings import ModelSection
from align.needs import copies_of
from align.plan.shapes import Shape, in_files, is_mixture, of_adapter, shape_of
from align.recipe.load import Recipe
from align.recipe.look_at_models import num_tokens, read_config
from align.recipe.online import is_online
from align.recipe.steps import steps_of_experience
from align.rewards.settings import Function
from align.scoring.role_table import REFERENCE, loaded, maker, section_of
from align.training.settings import CPU_MICRO_BATCH, HEAD_BYTES, LEAST_CHUNK, MICRO_BATCH

SINGLE, HALF = 4, 2  # bytes of a number: float32, and bfloat16 or float16
MOMENTS = {
    "AdamW": 2, "Adam": 2, "NAdam": 2, "RAdam": 2, "Adamax": 2, "SGD": 0, "Adafactor": 0, "Muon": 1,
    "AdamW8bit": 0.5, "Adam8bit": 0.5, "Lion8bit": 0.25,  # a quarter of a float32 each
}  # fmt: skip  # numbers that an optimiser remembers of a weight, each as wide as one
IN_4_BITS = 0.57  # bytes of a weight: half a byte, and a float32 for each block of 64


@dataclass(frozen=True, kw_only=True)
class Model:
    """One of the models that a rank has."""

    words: str  # policy, critic, reference, ...
    shape: Shape
    weights: int
    width: int  # bytes of one
    adapter: int = 0  # weights beside them, in float32
    learns: bool = False
    moments: float = 0  # numbers that the optimiser remembers of each weight that learns
    held: float = 0.0  # bytes of one in memory, where that is less than it is computed with
    leans: bool = False  # on the policy's weights, where every rank has them whole, and has an adapter of its own
    masters: bool = False  # float32, of ours, from which the optimiser steps
    divided: bool = True  # by a sharding that divides weights; else it is whole in every process

    @property
    def learned(self) -> int:
        """Weights that learn."""
        return (self.adapter or self.weights) if self.learns else 0

    @property
    def learned_width(self) -> int:
        return SINGLE if self.adapter else self.width


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is done with the models."""

    policy: Model
    critic: Model | None = None  # of its own
    frozen: tuple[Model, ...] = ()  # and copies that follow
    twin: Model | None = None
    optimizer: str = "AdamW"
    precision: int = SINGLE  # bytes of what is multiplied: half of the weights' where there is an autocast
    checkpointed: bool = False  # activations of a layer are made again in the backward pass
    eager: bool = False  # attention keeps the square of a sequence's length
    prompt: int = 0  # tokens that the sequences of a group share, and that are there once
    at_once: int  # groups that go through a model at once
    chunk: int  # predicted tokens whose logits stand in memory at once
    scalar: bool = False  # a number instead of logits
    batch: int  # groups that a step learns from, over all ranks
    members: int  # sequences of one
    length: int  # tokens of one, as far as is known
    ranks: int
    gpu: bool
    scored: tuple[Model, ...] = ()  # models that only score what a step learns from
    written: Written | None = None

    @property
    def micro_tokens(self) -> int:
        """That go through a model at once."""
        return self.at_once * self.group_tokens

    @property
    def group_tokens(self) -> int:
        return self.prompt + self.members * (self.length - self.prompt)

    @property
    def head_tokens(self) -> int:
        """Of these, whose logits stand in memory at once."""
        return min(self.chunk, self.predicted)

    @property
    def predicted(self) -> int:
        """Of these, those that are predicted: of completions. How long prompts of rows are, nobody knows before."""
        return self.at_once * self.members * (self.length - self.prompt)

    @property
    def micro_batches(self) -> int:
        """Of a step on one rank."""
        return ceil(ceil(self.batch / self.ranks) / self.at_once)

    @property
    def autocast(self) -> bool:
        return self.precision < self.policy.width


@dataclass(frozen=True, kw_only=True)
class Written:
    """What the policy writes of an experience."""

    sequences: int  # over all ranks
    of_prompt: int  # completions
    prompt: int  # tokens at most
    completion: int
    rows: int  # that a rank writes side by side
    steps: int  # that learn from it
    here: bool = True  # by the model that is trained, not by a server


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a recipe does not say."""

    ranks: int = 1
    length: int = 0  # tokens of a usual sequence; 0: the most that the recipe allows
    gpu: bool = True


def work_of(recipe: Recipe, asked: Asked) -> Work | None:
    """None where the policy is still on the hub."""
    policy = _policy(recipe)
    if policy is None:
        return None
    needs, training = recipe.method.needs(), recipe.training
    online = is_online(type(recipe.method))
    most = recipe.data.max_length + (recipe.rollout.max_completion_length if online else 0)
    members = recipe.rollout.num_generations if online else max(1, len(needs.learned()))
    scalar = any("scores" in needs.live(m) for m in needs.members)
    half = training.mixed_precision == "bf16" or (training.mixed_precision == "auto" and asked.gpu)
    tokens = training.max_tokens or (MICRO_BATCH if asked.gpu else CPU_MICRO_BATCH)
    length = min(asked.length, most) or most
    shared = recipe.data.max_length * length // most if online and training.layout in ("auto", "shared") else 0
    group = shared + members * (length - shared)
    at_once = max(1, min(tokens // group, ceil(training.batch_size / asked.ranks)))
    chunk = training.head_chunk or max(LEAST_CHUNK, HEAD_BYTES // (SINGLE * policy.shape.vocabulary))
    frozen = (*_roles(recipe, policy), *_rewards(recipe, policy))
    return Work(
        policy=policy, critic=_critic(recipe, policy), twin=_twin(recipe, policy),
        frozen=(*frozen, *_copies(recipe, policy)), scored=_scoring(recipe, policy, frozen),
        optimizer=recipe.optim.optim, precision=min(policy.width, HALF if half else SINGLE),
        checkpointed=training.gradient_checkpointing, eager=recipe.model.attn_implementation == "eager",
        at_once=at_once, chunk=chunk, scalar=scalar, batch=training.batch_size, members=members, length=length,
        prompt=shared, ranks=asked.ranks, gpu=asked.gpu, written=_written(recipe) if online else None,
    )  # fmt: skip


def _written(recipe: Recipe) -> Written:
    rollout = recipe.rollout
    return Written(
        sequences=(rollout.num_prompts or recipe.training.batch_size) * rollout.num_generations,
        of_prompt=rollout.num_generations, prompt=recipe.data.max_length, completion=rollout.max_completion_length,
        rows=rollout.max_rows, steps=steps_of_experience(recipe), here=rollout.engine == "local",
    )  # fmt: skip


# ---- models ---------------------------------------------------------------------------------------------------------


def width_of(section: ModelSection) -> int:
    return HALF if section.dtype in ("bfloat16", "float16") else SINGLE


def found(section: ModelSection) -> tuple[Shape, int] | None:
    """The shape and the number of weights of a section's model; None of one that is still on the hub."""
    name = section.model_name_or_path
    config = section.config or (read_config(name) if name else {})
    if not config:
        return None
    shape = shape_of(config, num_tokens(section.tokenizer_name_or_path or name))
    shape = dataclasses.replace(shape, vocabulary=shape.vocabulary + len(section.add_tokens))
    return shape, (in_files(name) if name else 0) or shape.count()


def _policy(recipe: Recipe) -> Model | None:
    section = recipe.model
    if (known := found(section)) is None:
        return None
    shape, weights = known
    adapter = _adapted(recipe, shape) if section.lora else of_adapter(section.model_name_or_path)
    return Model(
        words="policy", shape=shape, weights=weights, width=width_of(section), learns=True, adapter=adapter,
        moments=MOMENTS.get(recipe.optim.optim, 1), masters=recipe.optim.masters,
        held=IN_4_BITS if section.load_in_4bit else 0.0,
    )  # fmt: skip


def _adapted(recipe: Recipe, shape: Shape) -> int:
    """Weights of the recipe's adapter. Raises UserError where it matches nothing.

    All layers of a plain model need a look at their shapes alone; else the model is made without weights, which takes
    seconds.
    """
    section = recipe.model
    lora = section.lora
    assert lora is not None
    config = section.config or read_config(section.model_name_or_path)
    if lora.target_modules == "all-linear" and not is_mixture(config):
        return shape.adapted(lora.r)
    from align.models.outline import num_adapted

    scalar = any("scores" in recipe.method.needs().live(m) for m in recipe.method.needs().members)
    return num_adapted(section, "scalar" if scalar else "lm")


def _frozen(words: str, section: ModelSection, like: Model, **more: Any) -> Model:
    """A model that does not learn; as large as another where its config is not here."""
    shape, weights = found(section) or (like.shape, like.weights)
    return Model(words=words, shape=shape, weights=weights, width=width_of(section), **more)


def _named(section: ModelSection, name: str) -> ModelSection:
    """A section of this model alone; of the same weights where no name is given."""
    plain = dataclasses.replace(section, lora=None, critic=None)
    return dataclasses.replace(plain, model_name_or_path=name, config={}, add_tokens=[]) if name else plain


def _critic(recipe: Recipe, policy: Model) -> Model | None:
    critic = recipe.model.critic
    if critic is None:
        return None
    like = _frozen("critic", _named(recipe.model, critic.model_name_or_path), policy)
    return dataclasses.replace(like, learns=True, moments=policy.moments, masters=policy.masters)


def _twin(recipe: Recipe, policy: Model) -> Model | None:
    """Of a method on two levels: it learns beside the policy, by other losses."""
    if not recipe.method.levels():
        return None
    return dataclasses.replace(policy, words="the policy's twin", leans=bool(policy.adapter))


def _roles(recipe: Recipe, policy: Model) -> Iterator[Model]:
    section = recipe.model
    own = bool(section.ref_model_name_or_path) or not _switched_off(section)
    for role in loaded(recipe.method, section):
        if section.reference == "cached" or (role == REFERENCE and not own):
            continue
        named, _ = section_of(section, role)
        yield _frozen(maker(role).words, _named(section, named.ref_model_name_or_path), policy)


def _switched_off(section: ModelSection) -> bool:
    """Whether the reference is the policy without its adapter."""
    return section.reference == "adapter_off" or (section.reference == "auto" and section.lora is not None)


def _copies(recipe: Recipe, policy: Model) -> Iterator[Model]:
    for role in copies_of(recipe.method):
        words = f"{role}, which follows the policy"
        yield dataclasses.replace(policy, words=words, learns=False, moments=0, leans=bool(policy.adapter))


def _rewards(recipe: Recipe, policy: Model) -> Iterator[Model]:
    """Reward models, which every process holds whole."""
    for function in recipe.reward.functions if is_online(type(recipe.method)) else ():
        name = function.name if isinstance(function, Function) else function
        if name == "learned" and isinstance(function, Function):
            section = ModelSection(model_name_or_path=_model_of(function.settings))
            yield _frozen("reward model", section, policy, divided=False)


def _model_of(settings: Mapping[str, Any]) -> str:
    if not isinstance(name := settings.get("model"), str):
        raise UserError("reward.functions: learned needs settings.model, a reward model's folder")
    return name


def _scoring(recipe: Recipe, policy: Model, frozen: tuple[Model, ...]) -> tuple[Model, ...]:
    """Who scores all that is learned from, once: frozen models, the policy without its adapter, and the policy before
    the step where an experience lasts for several."""
    roles = recipe.method.needs().roles()
    off = (policy,) if REFERENCE in roles and _switched_off(recipe.model) else ()
    old = (policy,) if "old" in roles and steps_of_experience(recipe) > 1 else ()
    return (*frozen, *off, *old)
