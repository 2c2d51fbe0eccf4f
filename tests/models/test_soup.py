"""An average of models as the reference."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from align.errors import Mistakes, UserError
from align.models.frozen import averaged, frozen_copy
from align.models.settings import ModelSection, SoupSection
from align.models.tokenizer import load_tokenizer
from align.recipe.load import load_recipe

STORIES = "asset:stories260k"
SECTION = ModelSection(model_name_or_path=STORIES)


def moved(folder: Path, seed: int) -> str:
    """The shipped model with noise on its weights."""
    torch.manual_seed(seed)
    tokenizer = load_tokenizer(SECTION)
    model = frozen_copy(SECTION, tokenizer, "lm", folder)
    for parameter in model.parameters():
        parameter.add_(0.02 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def reference(*names: str, weights: list[float] | None = None) -> dict[str, torch.Tensor]:
    section = dataclasses.replace(SECTION, reference=SoupSection(soup=list(names), weights=weights or []))
    made = frozen_copy(section, load_tokenizer(SECTION), "lm", Path())
    assert not made.training
    assert not any(p.requires_grad for p in made.parameters())
    return dict(made.named_parameters())


def test_it_is_the_mean_of_the_weights(tmp_path: Path):
    one, two = moved(tmp_path / "one", 1), moved(tmp_path / "two", 2)
    of_one, of_two = (dict(AutoModelForCausalLM.from_pretrained(name).named_parameters()) for name in (one, two))
    for name, weights in reference(one, two).items():
        torch.testing.assert_close(weights, (of_one[name] + of_two[name]) / 2)
    for name, weights in reference(one, two, weights=[0.25, 0.75]).items():
        torch.testing.assert_close(weights, 0.25 * of_one[name] + 0.75 * of_two[name])
    for name, weights in reference(one, two, weights=[0.0, 1.0]).items():
        assert torch.equal(weights, of_two[name])


@pytest.mark.parametrize("weights", [[0.5, 0.5], [1.0, 0.0], [0.2, 0.3, 0.5]])
def test_of_equal_models_it_is_that_model(weights: list[float]):
    whole = dict(frozen_copy(SECTION, load_tokenizer(SECTION), "lm", Path()).named_parameters())
    for name, values in reference(*[STORIES] * len(weights), weights=weights).items():
        assert torch.equal(values, whole[name])


def test_halves_are_averaged_in_single_precision():
    first, second = (torch.nn.Linear(64, 64, dtype=torch.bfloat16) for _ in range(2))
    wanted = ((first.weight.float() + second.weight.float()) / 2).bfloat16()
    made: Any = averaged([("first", first), ("second", second)], [0.5, 0.5])
    assert torch.equal(made.weight, wanted)


def test_models_of_other_shapes_are_refused():
    with pytest.raises(UserError, match=r"second has other parameters than the first model \(weight\)"):
        averaged([("first", torch.nn.Linear(2, 2, False)), ("second", torch.nn.Linear(3, 2, False))], [0.5, 0.5])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("{soup: []}", "model.reference.soup: names none; expected two or more"),
        ("{soup: [asset:stories260k]}", "names asset:stories260k; expected two or more"),
        (
            "{soup: [asset:stories260k, asset:careless_adder]}",
            "model.reference.soup.1: its vocabulary has 13 tokens, the model's 512",
        ),
        ("{soup: [asset:stories260k, asset:careless_adder]}", "its num_hidden_layers is 2, the first model's 5"),
        ("{soup: [asset:stories260k], weights: [0.5, 0.5]}", "model.reference.weights: found 2 for 1 models"),
        ("{soup: [asset:stories260k, asset:stories260k], weights: [0.5, 0.6]}", "whose sum is 1.1; expected shares"),
        ("{soup: [nowhere/at/all]}", "model.reference.soup.0: no such folder: nowhere/at/all"),
        ("{soup: [asset:stories260k], weight: [1]}", "no such key"),
        ("blend", "model.reference"),
    ],
)
def test_mistakes_are_told_before_training(words: str, told: str):
    with pytest.raises(Mistakes) as error:
        load_recipe("dpo", [f"model.reference={words}"])
    assert told in str(error.value)
