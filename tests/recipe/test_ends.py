"""How a run ends: by steps or by epochs, the command line before the file."""

from __future__ import annotations

from pathlib import Path

from align.recipe.load import load_recipe


def test_the_command_line_may_end_a_run_in_another_way_than_its_file(tmp_path: Path):
    assert load_recipe("dpo").training.max_steps == 0
    short = load_recipe("dpo", ["training.max_steps=5"])
    assert short.training.max_steps == 5
    assert "num_train_epochs" not in short.to_dict()["training"]
    by_steps = tmp_path / "by_steps.yaml"
    by_steps.write_text(short.to_yaml())
    assert load_recipe(by_steps).training.max_steps == 5
    again = load_recipe(by_steps, ["training.num_train_epochs=0.5"])
    assert (again.training.max_steps, again.training.num_train_epochs) == (0, 0.5)
