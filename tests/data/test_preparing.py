"""A preparation says how far it is, and takes away what killed ones have left."""

import os
import time
from pathlib import Path
from typing import Any

import pytest
from small_runs import FRESH, write_recipe, write_rows

from align.models.tokenizer import load_tokenizer
from align.recipe.load import Recipe, load_recipe
from align.recipe.look_at_data import num_read
from align.run import assemble as assembly
from align.run.assemble import load_data
from align.world.distributed import join


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    monkeypatch.setenv("ALIGN_CACHE", str(tmp_path / "cache"))
    rows = [{"prompt": f"What is {i}?", "completion": f"{i}."} for i in range(1300)]
    data = {"train": write_rows(tmp_path / "rows.jsonl", rows), "num_rows": 1200, "max_length": 64}
    made: dict[str, Any] = {"method": {"name": "sft"}, "model": FRESH, "data": data}
    return load_recipe(write_recipe(tmp_path / "mine.yaml", made))


def prepared(recipe: Recipe) -> int:
    return len(load_data(recipe, load_tokenizer(recipe.model), join(recipe.optim.max_grad_norm)).train)


def test_a_log_gets_lines_while_rows_are_prepared(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(assembly, "EVERY_ROWS", 0.0)
    assert prepared(recipe) == num_read(recipe.data) == 1200
    lines = [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()]
    assert [line for line in lines if not line.endswith(" 0/1200")] == [
        f"preparing the data {done}/1200" for done in (512, 1024, 1200)
    ]
    assert prepared(recipe) == 1200
    assert capsys.readouterr().out == "", "what is in the cache is silent"


def test_what_killed_preparations_left_goes_after_a_day(recipe: Recipe, tmp_path: Path):
    old, young, other = (tmp_path / "cache" / name for name in (".0123abcd-xyz", ".4567abcd-xyz", "logps"))
    for folder in (old, young, other):
        (folder / "splits").mkdir(parents=True)
        (folder / "splits" / "tokens.bin").write_bytes(b"half")
        for path in (*folder.rglob("*"), folder):
            os.utime(path, (then := time.time() - 25 * 3600, then))
    (young / "splits" / "tokens.bin").touch()
    assert prepared(recipe) == 1200
    assert [folder.exists() for folder in (old, young, other)] == [False, True, True]
