"""The tables know every key of the installed TRL with its default, and lead to keys that there are."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import trl
from transformers import TrainingArguments
from trl.scripts.grpo import GRPOScriptArguments
from trl.scripts.utils import DatasetMixtureConfig, ScriptArguments
from trl.trainer.model_config import ModelConfig

from align.methods.base import find_method, method_names
from align.recipe.load import ONLINE, OWNERS
from align.recipe.types import names
from align.translate.hints import translate_key, translate_knob
from align.translate.words import PROJECTS, table, trainers, without, words_of

BESIDE = (ModelConfig, ScriptArguments, DatasetMixtureConfig, GRPOScriptArguments)  # of TRL's scripts


@pytest.fixture(scope="module", autouse=True)
def _no_warning_of_what_may_change() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
        yield


def configs() -> Iterator[tuple[str, type[Any]]]:
    """Every config class of the installed TRL with our name of its trainer."""
    for place in ("trainer", "experimental"):
        folder = Path(trl.__file__).parent / place
        for file in sorted(folder.rglob("*_config.py")):
            name = ".".join(("trl", place, *file.relative_to(folder).with_suffix("").parts))
            module = importlib.import_module(name)
            for cls in vars(module).values():
                own = isinstance(cls, type) and cls.__module__ == name and issubclass(cls, TrainingArguments)
                if own and not cls.__name__.startswith("_"):
                    yield file.stem.removesuffix("_config"), cls


def test_every_trainer_of_trl_has_a_method_or_a_reason():
    found = {name for name, _ in configs()}
    assert found >= {"sft", "dpo", "kto", "reward", "grpo", "rloo", "orpo", "cpo"}
    assert found <= set(trainers("trl")) | set(without("trl"))


def test_every_field_of_every_trainer_has_an_entry_and_its_default():
    for trainer, cls in configs():
        if trainer not in trainers("trl"):
            continue
        words = words_of("trl", trainer)
        for config in (cls, *BESIDE):
            fields = dataclasses.fields(config)
            assert not [f.name for f in fields if f.name not in words], (trainer, config.__name__)
            for field in (f for f in fields if f.name in words.defaults):
                factory = field.default_factory
                default = field.default if factory is dataclasses.MISSING else factory()
                if default is None and field.name in ("report_to", "use_peft"):
                    continue
                mine = words.defaults[field.name]
                assert getattr(default, "value", default) == mine, (trainer, field.name, default, mine)


def test_what_each_word_becomes_is_there():
    places = {f"{s}.{key}" for s, owner in (OWNERS | ONLINE).items() for key in names(owner)}
    lora = next(a for a in get_args(get_type_hints(OWNERS["model"])["lora"]) if dataclasses.is_dataclass(a))
    critic = next(a for a in get_args(get_type_hints(OWNERS["model"])["critic"]) if dataclasses.is_dataclass(a))
    places |= {f"model.lora.{key}" for key in names(lora)} | {f"model.critic.{key}" for key in names(critic)}
    places |= {f"method.{knob}" for method in method_names() for knob in ("name", *names(find_method(method)))}
    for project in PROJECTS:
        for trainer in ("", *trainers(project)):
            for word, place in words_of(project, trainer).here.items():
                if place.split(".")[0] in (*OWNERS, *ONLINE, "method"):
                    assert place in places, (project, trainer, word, place)


@pytest.mark.parametrize("project", PROJECTS)
def test_a_table_says_one_thing_of_a_word(project: str):
    own = table(project)
    parts = [set(own.get(part, {})) for part in ("here", "no_meaning", "not_offered", "same")]
    for i, part in enumerate(parts):
        assert not any(part & other for other in parts[i + 1 :])
    for trainer in trainers(project):
        words = words_of(project, trainer)
        known = {*words.here, *words.no_meaning, *words.not_offered, *words.same, *words.same.values()}
        trl = words_of("trl", "ppo" if trainer == "ppo" else "dpo")
        assert not [k for k in words.defaults if k not in known and k not in trl], (project, trainer)


@pytest.mark.parametrize(
    ("method", "word", "ours"),
    [
        ("ppo", "vf_coef", "value_coef"),
        ("ppo", "cliprange_value", "value_clip"),
        ("grpo", "beta", "kl_coef"),
        ("orpo", "beta", "lam"),
        ("reward_model", "center_rewards_coefficient", "center_coef"),
        ("grpo", "epsilon", "clip_range"),
    ],
)
def test_a_foreign_knob_names_ours(method: str, word: str, ours: str):
    assert translate_knob(word, names(find_method(method)), method_names()) == f" {word}: here `{ours}`."


def test_a_foreign_key_names_ours_or_says_why_there_is_none():
    assert translate_key("lr") == " lr: here `optim.learning_rate`."
    assert translate_key("learning_rate") == " learning_rate: here `optim.learning_rate`."
    assert "read from there" in translate_key("streaming")
    assert "rows beside a row" in translate_key("load_in_8bit")
    assert translate_key("micro_train_batch_size").startswith(" Here: training.max_tokens")
    assert translate_key("nothing_of_this_name") == ""
