"""Runs over two levels: rows of sources and a trusted set, a twin, weights that are learned; a run that uses them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from kills import assert_no_trace
from small_runs import BRIEF, FRESH, assert_resumes, gap, lines, same, told, train, weights, write_recipe, write_rows

from align.cli.main import main
from align.runfolder.fragments import Saved
from align.runfolder.state_files import load_state

NAMES = ("good", "bad", "odd")


def rows(kind: str, count: int, start: int = 0) -> list[dict[str, str]]:
    answers = {"good": "one two three", "bad": "no", "odd": "three one"}
    return [{"prompt": f"count {start + i}", "completion": answers[kind] + "!" * (i % 3)} for i in range(count)]


@pytest.fixture
def recipe(tmp_path: Path) -> dict[str, Any]:
    sources = [write_rows(tmp_path / f"{name}.jsonl", rows(name, 12, 100 * i)) for i, name in enumerate(NAMES)]
    return {
        "method": {"name": "scalebio", "weights_rate": 0.1, "trusted_rows": 3}, "model": FRESH,
        "data": {
            "train": [{"source": source} for source in sources], "max_length": 64,
            "trusted": write_rows(tmp_path / "trusted.jsonl", rows("good", 5, 1000)),
        },
        "optim": {"learning_rate": 1e-2, "lr_scheduler_type": "linear", "weight_decay": 0.1},
        "training": {"batch_size": 6, "max_steps": 6, "save_steps": 1, "save_total_limit": 9},
        "logging": BRIEF,
    }  # fmt: skip


def written(tmp_path: Path, recipe: dict[str, Any], **changes: dict[str, Any]) -> Path:
    made = {name: {**section, **changes.get(name, {})} for name, section in recipe.items()}
    return write_recipe(tmp_path / "recipe.yaml", made)


def mistakes(capsys: pytest.CaptureFixture[str], command: str, recipe: Path, *words: str) -> str:
    capsys.readouterr()
    assert main([*command.split(), str(recipe), *words]) == 2
    found = capsys.readouterr()
    return re.sub(r"\s+", " ", found.out + found.err)


def test_a_run_learns_weights_keeps_the_policy_and_resumes_bitwise(tmp_path: Path, recipe: dict[str, Any]) -> None:
    file = written(tmp_path, recipe)
    run = train(file, tmp_path / "run")
    logged = lines(run / "metrics.jsonl")
    assert [logged[0][f"weights/{name}"] for name in NAMES] == pytest.approx([1 / 3] * 3)
    assert logged[0]["effective_sources"] == pytest.approx(3)
    assert logged[1]["weights/good"] == logged[0]["weights/good"], "in the first step the twin is the policy"
    assert logged[2]["weights/good"] != logged[1]["weights/good"]
    for line in logged:
        assert sum(line[f"weights/{name}"] for name in NAMES) == pytest.approx(1)
        told_of = {name for name in NAMES if f"sources/{name}" in line}
        p = {name: line[f"weights/{name}"] for name in told_of}
        for level in ("sources", "twin"):
            assert line[f"{level}/loss"] == pytest.approx(sum(p[n] * line[f"{level}/{n}"] for n in told_of), rel=1e-6)
    assert logged[0]["sources/loss"] == logged[0]["twin/loss"]
    assert logged[-1]["sources/loss"] != logged[-1]["twin/loss"]
    assert {"twin_grad_norm", "twin_learning_rate", "sources_learning_rate"} <= logged[0].keys()

    last = run / "checkpoints" / "step-000006"
    state = load_state(last / "sources" / "state.pt")
    found = told(run / "sources.json")
    assert state["names"] == list(NAMES) == [one["name"] for one in found["sources"]]
    assert [one["weight"] for one in found["sources"]] == pytest.approx(state["logits"].softmax(0).tolist())
    assert state["optimizer"]["param_groups"][0]["weight_decay"] == 0, "it would pull to equal weights"
    policy, twin = (Saved(last / name / "state", 0).whole() for name in (".", "twin"))
    assert gap(policy, twin) > 1e-4
    final = weights(run)
    assert final
    assert all(torch.equal(tensor, policy[f"model.{name}"]) for name, tensor in final.items()), "w is kept, and not u"
    assert_resumes(str(file), run, tmp_path, 3)
    report = (run / "report.html").read_text()
    assert "Weights of the sources" in report
    assert "Effective number of sources" in report


def test_kills_leave_no_trace(tmp_path: Path, recipe: dict[str, Any]) -> None:
    """Between steps, and within a checkpoint's write, of which the twin and the logits are a part."""
    file = written(tmp_path, recipe, data={"validation": 0.2}, training={"max_steps": 8, "eval_steps": 3})

    def logged(count: int) -> Any:
        return lambda out: (out / "metrics.jsonl").exists() and (out / "metrics.jsonl").read_text().count("\n") >= count

    def writing(out: Path) -> bool:
        return any("twin" in str(p) for p in out.glob("checkpoints/.*/*"))

    assert_no_trace(file, tmp_path, (logged(2), writing, logged(6)))
    assert told(tmp_path / "cut" / "sources.json") == told(tmp_path / "whole" / "sources.json")


def test_other_sources_do_not_go_on_from_a_checkpoint(
    tmp_path: Path, recipe: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(written(tmp_path, recipe, training={"max_steps": 1}), tmp_path / "run")
    renamed = [one | {"name": f"other {i}"} for i, one in enumerate(recipe["data"]["train"])]
    file = written(tmp_path, recipe, data={"train": renamed})
    said = mistakes(capsys, "train", file, f"training.output_dir={run}", "--resume", "--allow-changes", "all")
    assert "holds the weights of ['good', 'bad', 'odd'], and this recipe has the sources ['other 0'" in said


def test_a_second_run_draws_rows_by_the_learned_weights(
    tmp_path: Path, recipe: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(written(tmp_path, recipe, training={"max_steps": 3}), tmp_path / "run")
    learned = {one["source"]: one["weight"] for one in told(run / "sources.json")["sources"]}
    plain = {**recipe, "method": {"name": "sft"}, "data": {**recipe["data"], "weights_from": str(run)}}
    del plain["data"]["trusted"]
    plain["data"]["train"] = recipe["data"]["train"][::-1]
    again = train(write_recipe(tmp_path / "sft.yaml", plain), tmp_path / "sft")
    assert "data.weights_from: " in capsys.readouterr().out
    resolved = yaml.safe_load((again / "recipe.yaml").read_text())["data"]
    assert resolved["weights_from"] == ""
    assert {one["source"]: one["weight"] for one in resolved["train"]} == learned
    train(again / "recipe.yaml", tmp_path / "third")
    assert same(weights(again), weights(tmp_path / "third"))

    file = tmp_path / "sft.yaml"
    fewer = json.dumps(plain["data"]["train"][:2])
    assert "list the same sources, splits and columns" in mistakes(capsys, "check", file, f"data.train={fewer}")
    heavy = json.dumps([{**one, "weight": 2.0} for one in plain["data"]["train"]])
    assert "conflicts with data.train.0.weight: 2" in mistakes(capsys, "check", file, f"data.train={heavy}")
    one = f"data.train={plain['data']['train'][0]['source']}"
    assert "weighs a list of sources" in mistakes(capsys, "check", file, one)
    assert "holds no sources.json" in mistakes(capsys, "check", file, f"data.weights_from={again}")
    (run / "sources.json").write_text('{"sources": [{"source": "a"}]}')
    assert "not as a run writes it" in mistakes(capsys, "check", file)


def test_what_cannot_be_is_refused_before_training(
    tmp_path: Path, recipe: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    file, good = written(tmp_path, recipe), recipe["data"]["train"][0]["source"]
    assert "data.trusted: missing; scalebio learns" in mistakes(capsys, "check", file, "data.trusted=null")
    said = mistakes(capsys, "check", file, f"data.trusted={good}")
    assert f"{good} is data.train.0, too" in said
    assert "sft learns from data.train alone" in mistakes(
        capsys, "check", file, "method=null", "method.name=sft"
    )  # fmt: skip
    assert "learns the weights itself" in mistakes(capsys, "check", file, "data.weights_from=somewhere")
    named = json.dumps([{**one, "name": "same"} for one in recipe["data"]["train"]])
    assert "two sources are called same" in mistakes(capsys, "check --all", file, f"data.train={named}")
    named = json.dumps([{**one, "name": "loss"} for one in recipe["data"]["train"][:1]])
    assert "loss is the name of a metric" in mistakes(capsys, "check", file, f"data.train={named}")

    leak = [*rows("good", 3, 2000), rows("bad", 12, 100)[4]]
    write_rows(Path(recipe["data"]["trusted"]), leak)
    for command in ("check --all", "train"):
        said = mistakes(capsys, command, file, f"training.output_dir={tmp_path / 'leak'}")
        assert re.search(r"trusted.jsonl: row 4 and \S+bad.jsonl: row 5, of data.train, are the same", said), said
    write_rows(Path(recipe["data"]["trusted"]), rows("good", 2, 100))  # a prompt of `bad`, with another answer
    assert main(["check", "--all", str(file)]) == 0
    assert "trusted: 2 rows have a prompt that train has too" in capsys.readouterr().out


def test_memory_is_told_for_both_copies(
    tmp_path: Path, recipe: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(written(tmp_path, recipe)), "data.num_rows=6"]) == 0
    said = capsys.readouterr().out
    for part in ("weights", "AdamW states", "gradients"):
        assert f"the policy's twin: {part}" in said


def test_a_method_from_outside_is_told_what_its_lessons_lack(
    tmp_path: Path, recipe: dict[str, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "our_levels.py").write_text(
        "from dataclasses import dataclass\n"
        "from align.batches import Demonstrations, Sequences\n"
        "from align.methods.base import Loss, OfflineMethod, Term\n"
        "from align.needs import Lesson, Levels\n\n\n"
        "@dataclass(frozen=True, kw_only=True)\n"
        "class Half(OfflineMethod[Demonstrations[Sequences]]):\n"
        "    name = 'half'\n    paper = ''\n    two: bool = True\n\n"
        "    def levels(self):\n        return Levels(2, 0.1) if self.two else None\n\n"
        "    def lessons(self):\n        return (Lesson('twins', 'trusted', self.loss),)\n\n"
        "    def loss(self, batch):\n        return Loss(Term(-batch.completion.logps, batch.completion.mask))\n"
    )
    monkeypatch.chdir(tmp_path)
    file = written(tmp_path, {**recipe, "method": {"name": "our_levels:Half"}})
    said = mistakes(capsys, "check", file)
    assert "has no source_slopes(told)" in said
    assert "has no field source_names, source_weights = remembered(())" in said
    assert "has a lesson whose learner is twins; there are policy, twin" in said
    said = mistakes(capsys, "check", file, "method.two=false")
    assert "has a lesson whose stream is trusted; there is train" in said
    assert "half learns from data.train alone; remove the key" in said
