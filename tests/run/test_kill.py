"""kill -9 at any instant, then --resume: the run ends as if nothing had happened, bitwise."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch
from kills import Sign, assert_no_trace, assert_same_run, begin, ended, kill, lines, wait_for

from align.cli.main import main

STEPS = 24
KILLS = 9  # and one more inside a checkpoint's write
RECIPE = """
method: {name: kto}
model: {model_name_or_path: "asset:stories260k"}
data:
  train: asset:polite_pairs/train.jsonl
  validation: 0.1
  columns: {prompt: "{instruction}\\n{input}"}
  num_rows: 120
  bad_rows: drop
  max_length: 256
  overlong: cut_completion
optim: {learning_rate: 1.0e-3, lr_scheduler_type: linear, warmup_steps: 3}
training: {batch_size: 4, max_steps: 24, save_steps: 2, eval_steps: 8, max_eval_rows: 8, max_tokens: 600,
           load_best_model_at_end: true}
logging: {num_completions: 2, max_completion_length: 8}
"""


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("whole")
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE)
    assert ended(begin(recipe, folder / "run")) == 0
    return recipe, folder / "run"


def test_ten_kills_leave_no_trace(uninterrupted: tuple[Path, Path], tmp_path: Path):
    recipe, whole = uninterrupted
    out = tmp_path / "run"
    draw = random.Random(7)
    child = begin(recipe, out)
    for number in range(KILLS):
        wanted = (number * (STEPS - 2)) // KILLS
        assert wait_for(child, lambda n=wanted: len(lines(out / "metrics.jsonl")) >= n), "ended before it was killed"
        time.sleep(draw.uniform(0.0, 0.12))
        kill(child)
        child = begin(recipe, out, "--resume")
    _kill_inside_a_write(child, out)
    assert ended(begin(recipe, out, "--resume")) == 0
    assert_same_run(out, whole, STEPS)


def test_kills_within_an_experience_leave_no_trace(tmp_path: Path):
    """The policy that made its old log-probabilities is gone by then; its rows stand in the checkpoint."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.replace("{name: kto}", "{name: psft, warmup_experiences: 1}"))
    words = ("training.max_steps=10", "training.num_minibatches=4", "training.save_steps=1", "data.num_rows=60",
             "data.columns.completion=chosen", "training.metric_for_best_model=nll")  # fmt: skip
    signs: list[Sign] = [lambda out, n=n: len(lines(out / "metrics.jsonl")) >= n for n in (2, 7)]
    assert_no_trace(recipe, tmp_path, signs, *words)


def _kill_inside_a_write(child: int, out: Path) -> None:
    """While a checkpoint's temporary folder is there. It is there for some milliseconds of each save."""
    checkpoints = out / "checkpoints"

    def writing() -> bool:
        return checkpoints.is_dir() and any(p.name.endswith(".tmp") for p in checkpoints.iterdir())

    wait_for(child, lambda: not writing())
    assert wait_for(child, writing), "no checkpoint was written any more"
    kill(child)
    assert writing(), "the write had ended"


def test_sigterm_finishes_the_step_saves_and_exits_75(uninterrupted: tuple[Path, Path], tmp_path: Path):
    recipe, whole = uninterrupted
    out = tmp_path / "run"
    child = begin(recipe, out)
    assert wait_for(child, lambda: len(lines(out / "metrics.jsonl")) >= 5)
    os.kill(child, signal.SIGTERM)
    assert ended(child) == 75
    done = len(lines(out / "metrics.jsonl"))
    assert (out / "checkpoints" / f"step-{done:06d}" / "manifest.json").exists()
    assert ended(begin(recipe, out, "--resume")) == 0
    assert_same_run(out, whole, STEPS)


def test_a_live_run_keeps_its_folder(
    uninterrupted: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    recipe, _ = uninterrupted
    out = tmp_path / "run"
    child = begin(recipe, out)
    assert wait_for(child, lambda: len(lines(out / "metrics.jsonl")) >= 1)
    assert main(["train", str(recipe), f"training.output_dir={out}", "--resume"]) == 2
    kill(child)
    message = capsys.readouterr().err
    assert str(child) in message
    assert "training.output_dir" in message


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("training.batch_size=8", "training.batch_size"),
        ("data.num_rows=100", "data.num_rows"),
        ("method.beta=0.3", "method.beta"),
    ],
)
def test_a_resume_of_another_run_is_refused_naming_the_difference(
    uninterrupted: tuple[Path, Path], change: str, named: str, capsys: pytest.CaptureFixture[str]
):
    recipe, whole = uninterrupted
    before = (whole / "metrics.jsonl").read_bytes()
    assert main(["train", str(recipe), f"training.output_dir={whole}", change, "--resume"]) == 2
    assert named in capsys.readouterr().err
    assert (whole / "metrics.jsonl").read_bytes() == before


def test_a_folder_that_is_used_is_not_overwritten(uninterrupted: tuple[Path, Path], capsys: pytest.CaptureFixture[str]):
    recipe, whole = uninterrupted
    assert main(["train", str(recipe), f"training.output_dir={whole}"]) == 2
    assert "--resume" in capsys.readouterr().err


def test_a_damaged_checkpoint_is_passed_over_aloud(
    uninterrupted: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    recipe, whole = uninterrupted
    out = tmp_path / "run"
    child = begin(recipe, out)
    assert wait_for(child, lambda: len(lines(out / "metrics.jsonl")) >= 9)
    kill(child)
    newest = max(p for p in (out / "checkpoints").iterdir() if p.name.startswith("step-"))
    with open(newest / "state-00000.pt", "r+b") as file:
        file.seek(5000)
        file.write(b"\0\1\2\3")
    assert main(["train", str(recipe), f"training.output_dir={out}", "--resume"]) == 0
    assert f"{newest.name}: damaged: state-00000.pt" in capsys.readouterr().out
    assert_same_run(out, whole, STEPS)
    assert torch.get_num_threads() == 1
