"""What a run that is resumed calls itself, and what it refuses or says when it is not quite the run it was."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from small_runs import lines, metrics, same, told, train, weights

from align.cli.main import main
from align.recipe.load import load_recipe

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
    recipe = load_recipe(str(out), [])
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


def test_keys_that_may_always_differ_are_told_as_they_are_now(out: Path):
    train("dpo", out, *RUN, "training.save_steps=5", "--resume")
    assert load_recipe(str(out), []).training.save_steps == 5


KEEP_BEST = ("training.load_best_model_at_end=true", "--allow-changes", "all")
WORSE = "optim.learning_rate=0.5"  # so that no later evaluation is the best


def test_a_damaged_best_checkpoint_is_not_made_final(out: Path, capsys: pytest.CaptureFixture[str]):
    shutil.rmtree(out / "final")
    train("dpo", out, *RUN, *KEEP_BEST, WORSE, "training.max_steps=8", "--resume")
    best = told(out / "outcome.json")["best_step"]
    assert best == STEPS
    shutil.rmtree(out / "final")
    damaged = out / f"checkpoints/step-{best:06d}/state-00000.pt"
    content = bytearray(damaged.read_bytes())
    content[-200:-100] = bytes(100)
    damaged.write_bytes(content)
    assert main(["train", str(out), "--resume"]) == 1
    message = capsys.readouterr().err
    assert f"{damaged.parent}: holds the best evaluation's weights and is damaged: state-00000.pt" in message
    assert "load_best_model_at_end" in message
    assert not (out / "final").exists()
    train("dpo", out, *RUN, WORSE, "training.max_steps=8", "--resume",
          "--allow-changes", "training.load_best_model_at_end")  # fmt: skip
    assert told(out / "outcome.json")["final_step"] == 8


def test_a_best_evaluation_whose_weights_are_gone_does_not_count(out: Path, capsys: pytest.CaptureFixture[str]):
    once = ("training.max_steps=8", "training.save_total_limit=1", "--allow-changes", "all")
    train("dpo", out, *RUN, WORSE, *once, "--resume")
    assert told(out / "outcome.json")["best_step"] == STEPS
    assert [p.name for p in (out / "checkpoints").iterdir()] == ["step-000008"]
    capsys.readouterr()
    train("dpo", out, *RUN, *KEEP_BEST, WORSE, "training.max_steps=10", "--resume")
    assert "step-000006: is not there, so its evaluation no longer counts" in capsys.readouterr().out
    assert told(out / "outcome.json")["final_step"] == 10


def test_a_run_that_ended_early_goes_on_without_patience(out: Path):
    words = (WORSE, "training.eval_steps=1", "--resume", "--allow-changes", "all")
    train("dpo", out, *RUN, *words, "training.max_steps=20", "training.early_stopping_patience=1")
    ended = told(out / "outcome.json")
    assert (ended["step"], ended["ended_early"]) == (7, True)
    train("dpo", out, *RUN, *words, "training.max_steps=9", "training.early_stopping_patience=0")
    ended = told(out / "outcome.json")
    assert (ended["step"], ended["ended_early"]) == (9, False)


def test_in_a_new_folder_a_run_has_all_that_it_was(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    new, from_it = tmp_path / "new", ("--resume", str(whole / "checkpoints/step-000004"))
    train("dpo", new, *RUN, *from_it)
    assert metrics(new) == metrics(whole)
    assert same(weights(new), weights(whole))
    assert {p.name for p in whole.iterdir()} == {p.name for p in new.iterdir()}
    assert main(["train", str(new), "--resume"]) == 0
    shutil.copytree(whole, bare := tmp_path / "bare", ignore=shutil.ignore_patterns("metrics.jsonl"))
    capsys.readouterr()
    train("dpo", tmp_path / "other", *RUN, "--resume", str(bare / "checkpoints/step-000004"))
    assert "has no line of 4 of the 4 steps before" in capsys.readouterr().out


def test_another_environment_is_told_and_does_not_stop_a_run(out: Path, capsys: pytest.CaptureFixture[str]):
    before = told(out / "environment.json")
    (out / "environment.json").write_text(json.dumps(before | {"cpu": "Z80"}))
    words = ("dpo", out, *RUN, "--resume", str(out / "checkpoints/step-000004"))
    train(*words)
    assert f"environment: cpu: was Z80, is {before['cpu']}: what follows is not bitwise" in capsys.readouterr().out
    train(*words)
    assert "environment:" not in capsys.readouterr().out, "once"
