"""summary.json: the numbers of a pipeline, taken from its runs' test splits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from align.cli.main import main
from align.errors import Mistakes
from align.report.pipeline import summarise


def number(value: float) -> dict[str, Any]:
    return {"value": value, "stderr": value / 10, "n": 50, "rows": [value] * 50}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = {
        "accuracy": number(0.8), "loss": number(0.5), "before": {"accuracy": number(0.4)},
        "baselines": {"bag_of_words_accuracy": number(0.6)},
    }  # fmt: skip
    for run in ("reward_model", "dpo"):
        (tmp_path / run).mkdir()
        (tmp_path / run / "test.json").write_text(json.dumps(found))
    return tmp_path


def test_numbers_are_taken_with_their_errors(folder: Path, capsys: pytest.CaptureFixture[str]):
    words = ["dpo_accuracy=dpo:accuracy", "dpo_before=dpo:before/accuracy", "words=dpo:baselines/bag_of_words_accuracy"]
    assert main(["summary", str(folder), *words]) == 0
    first, accuracy, *_ = capsys.readouterr().out.splitlines()
    assert first == f"{folder / 'summary.json'}:"
    assert accuracy.split() == ["dpo_accuracy", "0.800", "±", "0.080", "(50", "rows)"]
    assert json.loads((folder / "summary.json").read_text()) == {
        "dpo_accuracy": {"value": 0.8, "stderr": 0.08, "n": 50},
        "dpo_before": {"value": 0.4, "stderr": 0.04, "n": 50},
        "words": {"value": 0.6, "stderr": 0.06, "n": 50},
    }


def test_a_name_may_have_a_slash(folder: Path):
    reward = "rewards/contains"
    (folder / "dpo/test.json").write_text(json.dumps({reward: number(0.7), "before": {reward: number(0.2)}}))
    summarise(folder, [f"r=dpo:{reward}", f"b=dpo:before/{reward}"])
    found = json.loads((folder / "summary.json").read_text())
    assert {name: entry["value"] for name, entry in found.items()} == {"r": 0.7, "b": 0.2}
    with pytest.raises(Mistakes, match=r"has no rewards/contain; there are rewards/contains, before. Did you mean"):
        summarise(folder, ["r=dpo:rewards/contain"])
    with pytest.raises(Mistakes, match=r"has no before/rewards/length; there are rewards/contains\."):
        summarise(folder, ["r=dpo:before/rewards/length"])
    with pytest.raises(Mistakes, match=r"has no baselines/x; there are rewards/contains, before\."):
        summarise(folder, ["r=dpo:baselines/x"])


def test_other_numbers_stay(folder: Path):
    summarise(folder, ["one=dpo:accuracy", "two=dpo:loss"])
    summarise(folder, ["two=dpo:accuracy", "three=reward_model:loss"])
    found = json.loads((folder / "summary.json").read_text())
    assert {name: entry["value"] for name, entry in found.items()} == {"one": 0.8, "two": 0.8, "three": 0.5}


def test_all_mistakes_are_told_and_nothing_is_written(folder: Path, capsys: pytest.CaptureFixture[str]):
    words = ["a=dpo:acuracy", "b=dop:accuracy", "c", "d=dpo", "e=dpo:accuracy", "f=dpo:before/lss", "g=dpo:accuracy/x"]
    with pytest.raises(Mistakes) as caught:
        summarise(folder, words)
    told = caught.value.messages
    assert len(told) == 6
    assert told[0].startswith("a=dpo:acuracy: ")
    assert "Did you mean accuracy?" in told[0]
    assert f"{folder / 'dop' / 'test.json'} is not there" in told[1]
    assert all("expected NAME=RUN:METRIC" in text for text in told[2:4])
    assert not (folder / "summary.json").exists()
    assert main(["summary", str(folder), "a=dpo:acuracy"]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_number_without_its_error_is_refused(folder: Path):
    (folder / "dpo/test.json").write_text(json.dumps({"accuracy": 0.8, "before": {"accuracy": number(0.1)}}))
    with pytest.raises(Mistakes, match=r"a=dpo:accuracy.*no value, stderr and n"):
        summarise(folder, ["a=dpo:accuracy"])
    with pytest.raises(Mistakes, match=r"b=dpo:before.*no value, stderr and n"):
        summarise(folder, ["b=dpo:before"])


def test_the_mean_of_three_seeds_keeps_the_error_of_the_rows(folder: Path):
    rows = [[1.0, 0.0, 1.0, 1.0], [1.0, 0.0, 0.0, 1.0], [1.0, 1.0, 0.0, 1.0]]
    for seed, values in enumerate(rows):
        (folder / f"seed{seed}").mkdir()
        measured = {"value": sum(values) / 4, "stderr": 0.25, "n": 4, "rows": values}
        (folder / f"seed{seed}/test.json").write_text(json.dumps({"accuracy": measured}))
    summarise(folder, ["mean=seed0,seed1,seed2:accuracy"])
    found = json.loads((folder / "summary.json").read_text())["mean"]
    # rows' means over the seeds 1, 1/3, 1/3, 1: mean 2/3, deviation sqrt(4/9/3), over sqrt(4) rows
    assert found["value"] == pytest.approx(2 / 3)
    assert found["stderr"] == pytest.approx((4 / 27) ** 0.5 / 2)
    assert (found["n"], found["runs"]) == (4, 3)
    with pytest.raises(Mistakes, match="not told on the same rows"):
        summarise(folder, ["mean=seed0,dpo:accuracy"])


def test_a_metric_of_training_is_the_mean_of_its_last_tenth(folder: Path, capsys: pytest.CaptureFixture[str]):
    """Where it was told, which need not be every step."""
    lines = [{"step": i, "loss": 1.0} | ({"kl": float(i)} if i % 2 else {}) for i in range(1, 81)]
    (folder / "dpo" / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["summary", str(folder), "kl=dpo:training/kl"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["kl", "76.000", "±", "1.291", "(4", "steps)"]
    with pytest.raises(Mistakes, match=r"metrics.jsonl has no reward; the run must have ended"):
        summarise(folder, ["reward=dpo:training/reward"])
