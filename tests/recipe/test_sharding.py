"""What a recipe cannot have under a sharding is told by `check`, and by the run before it loads anything."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from align.cli.check import EXAMPLES
from align.cli.main import main
from align.errors import Mistakes
from align.models.load import load_policy
from align.models.save import save_final
from align.models.tokenizer import load_tokenizer
from align.recipe.load import load_recipe
from align.recipe.sharding import mistakes
from align.run.assemble import assemble
from align.runfolder.folder import RunFolder

SERVED = ("rloo", "rollout.engine=vllm", "model.lora={r: 2}")
WRONG = [
    (("dpo", "optim.optim=Adafactor"), ("fsdp2",), "optim.optim: Adafactor keeps numbers for rows and columns"),
    (SERVED, ("zero3", "fsdp2"), "rollout.engine: vllm is given the adapter merged, which shards"),
]
ALL = ("ddp", "zero1", "zero2", "zero3", "fsdp2")


@pytest.mark.parametrize(("words", "kinds", "told"), WRONG)
def test_check_tells_it_where_the_sharding_is_named(
    words: tuple[str, ...], kinds: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
):
    recipe = load_recipe(words[0], words[1:])
    assert [kind for kind in ALL if any(mistakes(recipe, kind))] == list(kinds)
    assert main(["check", *words, "--sharding", kinds[-1]]) == 2
    assert told in capsys.readouterr().err
    assert main(["check", *words, "--sharding", "zero1"]) == 0
    assert "zero1, 8 ranks" in capsys.readouterr().out.replace("\n", " ")
    assert main(["check", *words]) == 0
    table = capsys.readouterr().out
    assert [kind for kind in EXAMPLES if kind in table] == [kind for kind in EXAMPLES if kind not in kinds]


@pytest.mark.parametrize(("words", "kinds", "told"), WRONG)
def test_a_run_is_refused_before_anything_is_loaded(
    words: tuple[str, ...], kinds: tuple[str, ...], told: str, tmp_path: Path
):
    world = cast(Any, SimpleNamespace(sharding=kinds[0]))  # nothing else of it is asked for
    with pytest.raises(Mistakes, match=told):
        assemble(load_recipe(words[0], words[1:]), world, RunFolder(tmp_path), print)


def test_an_adapter_that_stands_in_a_folder_is_one(tmp_path: Path):
    recipe = load_recipe("rloo", ["model.lora={r: 2}"])
    tokenizer = load_tokenizer(recipe.model, "lm")
    save_final(load_policy(recipe.model, tokenizer, "lm", tmp_path), tokenizer, tmp_path / "final", None)
    named = load_recipe("rloo", ["rollout.engine=vllm", f"model.model_name_or_path={tmp_path}"])
    assert [kind for kind in ALL if any(mistakes(named, kind))] == ["zero3", "fsdp2"]


def test_an_unknown_word_is_refused(capsys: pytest.CaptureFixture[str]):
    assert main(["check", "dpo", "--sharding", "zero4"]) == 2
    assert "zero4" in capsys.readouterr().err
