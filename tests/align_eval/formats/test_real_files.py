"""Files that lm_eval and inspect_ai have written themselves: what is read of them, and that our means are theirs."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import pytest
from evaluations import folder

from align.errors import UserError
from align_eval import bring, take_out
from align_eval.analysis.evaluation import evaluation_of
from align_eval.analysis.scores import scored
from align_eval.store import read_answers, read_items, read_scores

DATA = Path(__file__).parents[1] / "data" / "harnesses.json.gz"


@pytest.fixture(scope="module")
def real() -> dict[str, Any]:
    return json.loads(gzip.decompress(DATA.read_bytes()))


def means(folder: Path) -> dict[tuple[str, str], float]:
    rows = scored(evaluation_of(folder))
    return {(row.task, row.metric): row.estimate.value for row in rows if row.estimate.value is not None}


@pytest.fixture
def harness(real: dict[str, Any], tmp_path: Path) -> Path:
    """The folder that the harness made, its means among the samples."""
    folder = tmp_path / "out" / "org__model"
    folder.mkdir(parents=True)
    for name, text in real["lm_eval"].items():
        (folder / name).write_text(text)
    return folder


def test_means_of_the_harness_are_ours(real: dict[str, Any], harness: Path, tmp_path: Path) -> None:
    moved = bring("lm_eval", [harness.parent], tmp_path / "e")
    (summary,) = (json.loads(text) for name, text in real["lm_eval"].items() if name.startswith("results_"))
    found, compared = means(tmp_path / "e"), 0
    for task, values in summary["results"].items():
        for key, value in values.items():
            metric, comma, used = key.partition(",")
            if not comma or metric.endswith("_stderr"):
                continue
            compared += 1
            if metric == "word_perplexity":
                assert math.exp(-found[task, "logp_per_word"]) == pytest.approx(value)
            elif metric == "bits_per_byte":
                assert -found[task, "logp_per_byte"] / math.log(2) == pytest.approx(value)
            else:
                assert found[task, metric if used == "none" else f"{metric} ({used})"] == pytest.approx(value)
    assert compared == 6
    assert moved.missing == 0
    assert {score.model for score in read_scores(tmp_path / "e")} == {"stories260k"}


def test_answers_and_choices_of_the_harness(harness: Path, tmp_path: Path) -> None:
    bring("lm_eval", [harness], tmp_path / "e")
    answers = {(a.item, a.sample): a for a in read_answers(tmp_path / "e")}
    chosen = answers["toy_choose/2", 0]
    assert (chosen.text, chosen.columns["choices"]) == ("time", [" time", " cow"])
    assert chosen.columns["logps"] == pytest.approx([-0.00072, -17.0436], abs=1e-4)
    assert {sample for item, sample in answers if item == "toy_write/0"} == {0, 1}
    assert not any(item.startswith("toy_perplexity") for item, _ in answers)
    assert {i.id: i.prompt for i in read_items(tmp_path / "e")}["toy_write/1"] == "Q: The sky is\nA:"


def test_means_alone_are_refused(harness: Path, tmp_path: Path) -> None:
    (summary,) = harness.glob("results_*.json")
    with pytest.raises(UserError, match="has means alone; lm_eval writes samples_TASK_TIME"):
        bring("lm_eval", [summary], tmp_path / "e")


@pytest.mark.parametrize("task", ["toy", "choose"])
def test_means_of_inspect_are_ours(real: dict[str, Any], task: str, tmp_path: Path) -> None:
    log = real["inspect_ai"][task]
    (tmp_path / f"{task}.json").write_text(json.dumps(log))
    moved = bring("inspect_ai", [tmp_path / f"{task}.json"], tmp_path / "e")
    assert (moved.items, moved.missing) == (len({s["id"] for s in log["samples"]}), 0)
    found = means(tmp_path / "e")
    for scorer in log["results"]["scores"]:
        name = scorer["name"] if scorer["name"] == scorer["scorer"] else f"{scorer['scorer']}/{scorer['name']}"
        (value,) = (m["value"] for key, m in scorer["metrics"].items() if key != "stderr")
        assert found[task, name] == pytest.approx(value)


def test_what_inspect_wrote_goes_out_and_comes_back(real: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "toy.json").write_text(json.dumps(real["inspect_ai"]["toy"]))
    bring("inspect_ai", [tmp_path / "toy.json"], tmp_path / "e")
    items = {item.id: item for item in read_items(tmp_path / "e")}
    assert items["toy/2"].prompt == [{"role": "user", "content": "2+2\nin words"}]
    assert items["toy/sky"].columns == {"task": "toy", "kind": "colour"}
    take_out("inspect_ai", tmp_path / "e", tmp_path / "out")
    bring("inspect_ai", [tmp_path / "out"], tmp_path / "again")
    assert means(tmp_path / "again") == means(tmp_path / "e")
    assert {i.id: i.prompt for i in read_items(tmp_path / "again")} == {k: i.prompt for k, i in items.items()}


def test_what_inspect_asks_of_a_log_is_in_ours(tmp_path: Path) -> None:
    """inspect_ai 0.3.285 refuses a log without these keys, another stop reason, and a score that is null."""
    take_out("inspect_ai", folder(tmp_path / "e"), tmp_path / "out")
    logs = [json.loads(path.read_text()) for path in sorted((tmp_path / "out").glob("*.json"))]
    assert len(logs) == 2
    for log in logs:
        assert {"created", "dataset", "config", "task", "model"} <= log["eval"].keys()
        for sample in log["samples"]:
            assert [c["stop_reason"] for c in sample.get("output", {}).get("choices", [])] in (["stop"], [])
            assert all(score["value"] is not None for score in sample["scores"].values())
    bring("inspect_ai", [tmp_path / "out"], tmp_path / "again")
    before, after = ({(s.item.removeprefix("gsm8k/"), s.model, s.sample): (s.score, s.why)
                      for s in read_scores(tmp_path / name)} for name in ("e", "again"))  # fmt: skip
    assert after == before
    assert {a.stop for a in read_answers(tmp_path / "again")} == {"eos"}
