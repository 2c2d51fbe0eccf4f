"""What lies in the caches is held against its sums: a flipped bit is found, and what it is in is made again, aloud."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from small_runs import metrics, same, train, weights, write_rows

from align.assets import asset
from align.data.prepare import Splits, prepare
from align.data.settings import DataSection
from align.models.settings import ModelSection
from align.models.tokenizer import load_tokenizer

FILES = ("index.bin", "tokens.bin", "masks.bin", "extras.bin")
RUN = (
    "data.num_rows=30", "training.max_steps=2", "training.batch_size=8", "training.eval_steps=0", "data.test=0.0",
    "data.validation=0.0", "logging.num_completions=0", "model.reference=cached",
)  # fmt: skip


def flip(path: Path, at: float = 0.5) -> None:
    """One bit, at this share of the file."""
    content = bytearray(path.read_bytes())
    content[int(at * len(content))] ^= 1
    path.write_bytes(content)


@pytest.fixture(scope="module")
def stories() -> Any:
    return load_tokenizer(ModelSection(model_name_or_path="asset:stories260k"))


@pytest.mark.parametrize("name", [*(f"train/{name}" for name in FILES), "train/store.json", "splits.json"])
def test_a_flipped_bit_of_prepared_data_is_found(name: str, stories: Any, tmp_path: Path):
    rows = [{"prompt": f"What is {i}?", "completion": f" {i}"} for i in range(20)]
    kind = "prompts" if "extras" in name else "demonstrations"
    section = DataSection(train=write_rows(tmp_path / "rows.jsonl", rows), validation=0.2)

    def prepared() -> Splits:
        return prepare(section, kind, (), stories, tmp_path / "cache")

    first = prepared()
    folder = first.train.folder.parent
    assert first.remade == prepared().remade == (), "what is whole is silent"
    content = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    flip(folder / name)
    again = prepared()
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == content
    (note,) = again.remade
    assert "was damaged, and has been made again" in note
    assert prepared().remade == (), "told once"
    assert again.notes == first.notes, "which data.json tells: the rows are what they were"


@pytest.mark.parametrize("cache", ["data", "logps"])
def test_a_run_learns_from_what_was_written(
    cache: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("ALIGN_CACHE", str(tmp_path / "cache"))
    whole = train("dpo", tmp_path / "whole", *RUN)
    found = tmp_path.glob("cache/logps/*.f32" if cache == "logps" else "cache/*/train/tokens.bin")
    flip(max(found, key=lambda path: path.stat().st_size))
    capsys.readouterr()
    again = train("dpo", tmp_path / "again", *RUN)
    assert "made again" in capsys.readouterr().out
    assert metrics(again) == metrics(whole)
    assert same(weights(again), weights(whole))


def test_cached_log_probabilities_are_of_the_config_that_stands_there_now(tmp_path: Path):
    """Weights alone do not say what a model answers."""
    folder = tmp_path / "model"
    shutil.copytree(asset("asset:stories260k"), folder)
    words = (*RUN, f"model.model_name_or_path={folder}", "optim.learning_rate=1e-9")
    train("dpo", tmp_path / "one", *words)
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"rms_norm_eps": 1e-05', '"rms_norm_eps": 0.5'))
    assert "0.5" in config.read_text()
    two = train("dpo", tmp_path / "two", *words)
    assert metrics(two)[0]["loss"] == pytest.approx(0.6931, abs=1e-4), "policy and reference are the same model"
