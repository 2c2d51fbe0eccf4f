"""Defaults that depend on what else a recipe says; they are in the resolved recipe, and told where it matters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from align.methods.base import find_method, method_names
from align.recipe.load import load_recipe
from align.recipe.text import recipe_names


def written(path: Path, method: dict[str, Any], **sections: Any) -> Path:
    recipe: dict[str, Any] = {
        "method": method, "model": {"model_name_or_path": "asset:stories260k"}, "data": {"train": "rows.jsonl"},
    }  # fmt: skip
    kind = find_method(method["name"]).needs().batch.kind
    if kind == "prompts":
        recipe["reward"] = {"functions": ["repetition"]}
    answers = {"pairs": {"chosen": "b", "rejected": "c"}, "demonstrations": {"completion": "b"}}.get(kind, {})
    Path(path.parent, "rows.jsonl").write_text(json.dumps({"prompt": "a", **answers}) + "\n")
    path.write_text(yaml.safe_dump(recipe | sections))
    return path


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("name", "rate"),
    [("sft", 2e-5), ("dft", 2e-5), ("reward_model", 1e-5), ("orpo", 8e-6), ("dpo", 1e-6), ("rloo", 1e-6)],
)
def test_the_learning_rate_is_usual_for_the_method(name: str, rate: float, tmp_path: Path):
    recipe = load_recipe(written(tmp_path / "a.yaml", {"name": name}))
    assert recipe.optim.learning_rate == rate
    assert any(f"optim.learning_rate: {rate:g}, {name}'s default" in note for note in recipe.notes)
    own = load_recipe(written(tmp_path / "a.yaml", {"name": name}), ["optim.learning_rate=3e-6"])
    assert own.optim.learning_rate == 3e-6
    assert not any("learning_rate" in note for note in own.notes)


def test_no_method_is_without_a_usual_rate_and_no_shipped_recipe_takes_it():
    assert all(0 < find_method(name).usual_rate < 1e-3 for name in method_names())
    for name in recipe_names():
        text = (Path(__file__).parents[2] / "recipes" / f"{name}.yaml").read_text()
        assert "learning_rate" in yaml.safe_load(text)["optim"], name


def test_the_divisor_of_dr_grpo_is_the_most_tokens_that_a_completion_may_have(tmp_path: Path):
    path = written(tmp_path / "a.yaml", {"name": "dr_grpo"}, rollout={"max_completion_length": 48})
    recipe = load_recipe(path)
    assert recipe.method.constant_length == 48  # type: ignore[attr-defined]
    assert recipe.to_dict()["method"]["constant_length"] == 48
    assert not any("constant_length" in note for note in recipe.notes)
    resolved = tmp_path / "resolved.yaml"
    resolved.write_text(recipe.to_yaml())
    assert load_recipe(resolved) == recipe
    other = load_recipe(path, ["method.constant_length=3000"])
    assert other.method.constant_length == 3000  # type: ignore[attr-defined]
    (told,) = [note for note in other.notes if "constant_length" in note]
    assert told.startswith("method.constant_length: 3000 is 62.5 times rollout.max_completion_length (48)")
