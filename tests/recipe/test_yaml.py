"""Recipes are YAML 1.2: what 1.1 reads otherwise is read as 1.2 does, and written so that both read it alike."""

from pathlib import Path

import pytest
import yaml
from mistakes import mistakes

from align.recipe.load import load_recipe
from align.system.yaml12 import parse, to_yaml


def test_whole_numbers_are_read_as_yaml_1_2_reads_them(tmp_path: Path):
    values, _ = parse("{a: 016, b: 0o16, c: 0x1F, d: +08, e: 1_000, f: 1:30, g: 0b11, h: =, i: 1:30.5, j: '016'}")
    assert values == {
        "a": 16, "b": 14, "c": 31, "d": 8, "e": 1000, "f": "1:30", "g": "0b11", "h": "=", "i": "1:30.5", "j": "016",
    }  # fmt: skip
    path = tmp_path / "mine.yaml"
    plain = load_recipe("dpo", ["training.batch_size=61"]).to_yaml()
    path.write_text(plain.replace("batch_size: 61", "batch_size: 016"))
    overridden = load_recipe("dpo", ["training.batch_size=016"])
    assert load_recipe(path).training.batch_size == overridden.training.batch_size == 16


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("training.batch_size=1:30", "found the text '1:30'; expected a whole number"),
        ("training.seed=!!binary aGk=", "a recipe has no values of the kind tag:yaml.org,2002:binary"),
        ("training.seed=!!int foo", "invalid literal for int()"),
    ],
)
def test_what_is_no_number_in_yaml_1_2_is_refused(override: str, told: str):
    assert any(told in m for m in mistakes("dpo", override))


def test_text_that_looks_like_something_else_survives_a_round_trip():
    looks = ["016", "0o16", "089", "1e-6", "+1e3", "1:30", "0b1", "=", "<<", "yes", "2020-01-01", "~", "null", ""]
    values = {"a text": looks, "numbers": [16, 1e-6, 1e22, float("inf")], "others": [None, True]}
    assert parse(to_yaml(values))[0] == yaml.safe_load(to_yaml(values)) == values
    assert "name: '1e-6'" in load_recipe("dpo", ["name='1e-6'"]).to_yaml()
