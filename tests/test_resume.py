"""What a run that is resumed calls itself, and what it refuses or says when it is not quite the run it was."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from small_runs import lines, same, told, train, weights

from align.cli import main
from align.recipe import load

STEPS = 6
RUN = (
    "training.batch_size=8", "data.num_rows=100", "data.test=0", "data.validation=0.2", "training.max_eval_rows=8",
    f"training.max_steps={STEPS}", "training.eval_steps=2", "training.save_steps=2", "training.save_total_limit=9",
    "logging.num_completions=0",
)  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train("dpo", tmp_path_factory.mktemp("whole") / "run", *RUN)


@pytest.fixture
def out(whole: Path, tmp_path: Path) -> Path:
    """A copy of the run."""
    return Path(shutil.copytree(whole, tmp_path / "run"))


def test_a_changed_run_is_the_changed_one_from_then_on(out: Path, capsys: pytest.CaptureFixture[str]):
    longer = ("training.max_steps=9", "optim.learning_rate=1e-3")
    train("dpo", out, *RUN, *longer, "--resume", "--allow-changes", "training", "--allow-changes", "optim")
    recipe = load(str(out), [])
    assert (recipe.training.max_steps, recipe.optim.learning_rate) == (9, 1e-3)
    assert told(out / "identity.json")["recipe"]["training"]["max_steps"] == 9
    capsys.readouterr()
    before = weights(out)
    assert main(["train", str(out), "--resume", str(out / "checkpoints/step-000008")]) == 0
    assert "allowed" not in capsys.readouterr().out
    assert same(weights(out), before)
    assert [row["step"] for row in lines(out / "metrics.jsonl")] == list(range(1, 10))


def test_a_recipe_that_ends_before_the_checkpoint_is_refused(out: Path, capsys: pytest.CaptureFixture[str]):
    kept = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    shorter = ("training.max_steps=3", "--allow-changes", "training.max_steps")
    assert main(["train", "dpo", f"training.output_dir={out}", *RUN, *shorter, "--resume"]) == 2
    message = capsys.readouterr().err
    assert "step-000006: has made 6 steps, and this recipe ends after 3. Raise training.max_steps" in message
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == kept
    train("dpo", out, *RUN, *shorter, "--resume", str(out / "checkpoints/step-000002"))
    assert told(out / "outcome.json")["step"] == 3


def test_where_no_key_may_differ_the_recipe_of_now_is_told(out: Path):
    train("dpo", out, *RUN, "training.save_steps=5", "--resume")
    assert load(str(out), []).training.save_steps == 5
