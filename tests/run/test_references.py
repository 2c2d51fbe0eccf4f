"""Models that a recipe names as references: found before training, and the same ones when a run goes on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_runs import train

from align.assets import asset
from align.cli.main import main

RUN = (
    "data.num_rows=30", "training.num_train_epochs=null", "training.max_steps=3", "training.eval_steps=0",
    "training.batch_size=4", "training.save_steps=1", "logging.num_completions=0", "data.test=0.0",
)  # fmt: skip


@pytest.fixture
def models(tmp_path: Path) -> tuple[Path, Path]:
    """The shipped model, and one that differs a little."""
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        shutil.copytree(asset("asset:stories260k"), folder)
    change(second, 0.01)
    return first, second


def change(folder: Path, by: float) -> None:
    file = folder / "model.safetensors"
    weights = load_file(file)
    save_file({n: t + by * torch.ones_like(t) for n, t in weights.items()}, file, metadata={"format": "pt"})


@pytest.mark.parametrize("kind", ["soup", "other"])
def test_a_reference_that_has_changed_is_refused(
    kind: str, models: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    first, second = models
    word = (
        f"model.reference={{soup: [{first}, {second}]}}" if kind == "soup" else f"model.ref_model_name_or_path={second}"
    )
    run = train("dpo", tmp_path / "run", *RUN, word)
    shutil.rmtree(run / "final")
    again = ["train", "dpo", *RUN, word, f"training.output_dir={run}", "--resume", str(run / "checkpoints/step-000002")]
    change(second, 0.01)
    assert main(again) == 2
    assert "weights" in capsys.readouterr().err
    change(second, -0.01)
    assert main(again) == 2, "rounding is a change too"


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("model.reference={soup: [asset:stories260k, nowhere]}", "model.reference.soup.1: no such folder: nowhere"),
        ("model.ref_model_name_or_path=nowhere", "model.ref_model_name_or_path: no such folder: nowhere"),
        (
            "model.reference={soup: [asset:stories260k, asset:careless_adder]}",
            "model.reference.soup.1: its vocabulary has 13 tokens",
        ),
    ],
)
def test_a_reference_that_is_not_there_is_told_by_its_key(
    word: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["train", "dpo", *RUN, word, f"training.output_dir={tmp_path / 'run'}"]) == 2
    assert told in capsys.readouterr().err
