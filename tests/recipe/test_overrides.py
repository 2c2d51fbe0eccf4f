"""Text on the command line is what it says, whatever YAML would make of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from mistakes import RECIPE, dump, mistakes, pairs

from align.recipe.load import load_recipe


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/tmp/x/a #b", "/tmp/x/a #b"),
        ("a: b", "a: b"),
        ("{x}", "{x}"),
        ("[x", "[x"),
        ("2026", "2026"),
        ("true", "true"),
        ("'/tmp/x/a #b'", "/tmp/x/a #b"),
        ('"abc" # a comment', "abc"),
        ("null", "runs/dpo"),
        ("", "runs/dpo"),
    ],
)
def test_a_folder_is_called_what_it_is_called(text: str, expected: str, tmp_path: Path):
    recipe = load_recipe("dpo", [f"training.output_dir={text}"])
    assert recipe.training.output_dir == expected
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    assert load_recipe(tmp_path / "recipe.yaml").training.output_dir == expected


def test_text_inside_lists_and_mappings_is_known_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    dump("rows.jsonl", *pairs(4))
    Path("mine.yaml").write_text(RECIPE.replace("train: rows.jsonl", "train: [{source: rows.jsonl}]"))
    recipe = load_recipe("mine.yaml", ["data.train.0.split=a #b", "data.columns.prompt={prompt}: {prompt}"])
    assert recipe.data.train[0].split == "a #b"  # type: ignore[union-attr]
    assert recipe.data.columns == {"prompt": "{prompt}: {prompt}"}


def test_a_quote_that_does_not_end_is_told():
    (told,) = mistakes("dpo", "training.optim='AdamW")
    assert told.startswith("command line: training.optim: the value is no readable YAML: line 1")


def test_what_is_not_text_is_yaml():
    recipe = load_recipe("dpo", ["training.seed=7 # lucky", "logging.report_to=[tensorboard]"])
    assert (recipe.training.seed, recipe.logging.report_to) == (7, ["tensorboard"])
