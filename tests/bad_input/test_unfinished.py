"""What is said of runs that have not come to their end, and of data that have nothing to learn from."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from mistakes import RECIPE, dump
from small_runs import lines

from align.cli.main import main
from align.system.files import sweep


def test_a_stopped_run_is_no_model_and_says_how_it_becomes_one(capsys: pytest.CaptureFixture[str]):
    assert main(["train", "mine.yaml", "training.max_steps=null", "training.num_train_epochs=1"]) == 0
    shutil.rmtree("run/final")
    shutil.rmtree("run/checkpoints/step-000002")  # as one that was stopped after its first step
    capsys.readouterr()
    for command in (["chat", "run"], ["export", "run", "out"]):
        assert main(command) == 2
        told = capsys.readouterr().err
        assert "run: is the folder of a run that has not come to its end" in told
        assert "Go on with it: align train run --resume; or end it at its last checkpoint, step 1: " in told
    assert main(["chat", "run/checkpoints/step-000001"]) == 2
    assert "is a checkpoint, with the state of a run and no model folder; name the run, run" in capsys.readouterr().err
    assert main(["export", "run/checkpoints/step-000001", "of_checkpoint"]) == 0
    words = told.strip().rpartition("step 1: align ")[2].split()
    assert main(words) == 0
    assert len(lines(Path("run/metrics.jsonl"))) == 1
    assert main(["export", "run", "out"]) == 0
    files = [Path(name, "model.safetensors").read_bytes() for name in ("of_checkpoint", "out")]
    assert files[0] == files[1]


def test_a_run_without_a_checkpoint(capsys: pytest.CaptureFixture[str]):
    Path("run").mkdir()
    Path("run/recipe.yaml").write_text(RECIPE)
    assert main(["chat", "run"]) == 2
    assert "Go on with it: align train run --resume; it has no checkpoint yet" in capsys.readouterr().err


def verdicts(*labels: bool) -> None:
    rows: list[dict[str, Any]] = [
        {"prompt": f"What is {i}?", "completion": f"It is {i}.", "label": label} for i, label in enumerate(labels)
    ]
    dump("rows.jsonl", *rows)
    Path("mine.yaml").write_text(RECIPE.replace("dpo", "kto"))


@pytest.mark.parametrize("label", [True, False])
def test_verdicts_that_are_all_alike_are_refused(label: bool, capsys: pytest.CaptureFixture[str]):
    verdicts(*[label] * 8)
    assert main(["train", "mine.yaml"]) == 2
    told = capsys.readouterr().err
    assert f"data.train: all 8 rows have the label {str(label).lower()}: nothing to tell apart; add rows" in told


def test_steps_without_verdicts_of_a_kind_are_told(capsys: pytest.CaptureFixture[str]):
    """One of eight, four a step: (7/8)^4 = 59 %."""
    verdicts(True, *[False] * 7)
    assert main(["train", "mine.yaml", "training.max_steps=1"]) == 0
    assert "1 of 8 rows have the label true: about 59% of the steps have none; raise" in capsys.readouterr().out


def test_what_killed_writers_have_left_goes_after_a_day(folder: Path):
    for name, days in (("a.1.tmp", 2), ("b.2.tmp", 0), ("c.logps", 2)):
        (folder / name).write_text("")
        os.utime(folder / name, times=(time.time() - days * 86400 - 9,) * 2)
    sweep(folder, "*.tmp")
    assert sorted(p.name for p in folder.glob("?.*")) == ["b.2.tmp", "c.logps"]
