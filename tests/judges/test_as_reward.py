"""A judge that a run is trained with: a rule, and a model behind a real endpoint, in assembled runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from judging_server import serving
from small_runs import lines, metrics, train

from align.errors import UserError
from align.judges.served import endpoint as endpoints
from align.rewards.base import compares, find_reward

NAME = "align.judges.as_reward:Reward"
SMALL = (
    "data.num_rows=12", "data.max_length=64", "data.validation=0.0", "data.test=0.0", "rollout.num_generations=3",
    "rollout.max_completion_length=12", "training.batch_size=2", "training.max_steps=2",
    "training.num_train_epochs=null", "training.eval_steps=0", "training.save_steps=1", "rollout.record=true",
)  # fmt: skip


def functions(**settings: Any) -> str:
    return f"reward.functions=[{{name: '{NAME}', settings: {json.dumps(settings)}}}]"


def reward(**settings: Any) -> Any:
    return find_reward(NAME, settings)


def call(function: Any, completions: list[str], **columns: list[Any]) -> list[float | None]:
    ids = [[1]] * len(completions)
    return function(prompts=["Why?"] * len(completions), completions=completions, completion_ids=ids, **columns)


def test_a_run_learns_from_a_rule(tmp_path: Path) -> None:
    out = train("rloo", tmp_path / "run", *SMALL, functions(judge="rule:longer"))
    rows = metrics(out)
    assert [row["step"] for row in rows] == [1, 2]
    assert [row["reward"] for row in rows] == pytest.approx([0.5, 0.5])  # of rates against each other
    assert all(row["reward_std"] > 0 for row in rows)


def test_a_run_learns_from_an_endpoint_and_resumes_without_paying_twice(tmp_path: Path) -> None:
    with serving() as server:
        spec = {"judge": "http:judge-1", "base_url": server.url, "instructions": "graded"}
        given = functions(judge=spec, memory=str(tmp_path / "replies"))
        out = train("rloo", tmp_path / "run", *SMALL, given)
        rows = [row for path in sorted((out / "rollouts").glob("*.jsonl")) for row in lines(path)]
        assert len(rows) == 12
        for row in rows:
            assert row["rewards"]["Reward"] == pytest.approx(min(10, 1 + len(row["text"].strip()) / 10))
        paid = server.served
        assert 0 < paid <= 12
        again = train("rloo", tmp_path / "again", *SMALL, given)
        assert metrics(again) == metrics(out)
        assert server.served == paid


def test_pairs_are_shown_in_both_orders() -> None:
    with serving() as server:
        function = reward(judge={"judge": "http:judge-1", "base_url": server.url})
        assert compares(function)
        assert call(function, ["a", "ccc", "bb"]) == [0.0, 1.0, 0.5]
        assert len(server.bodies) == 6
        assert call(function, ["a", "a"]) == [0.5, 0.5]  # equal texts are even, and nobody is asked
        assert len(server.bodies) == 6
        against = call(function, ["a", "ccc", "bb"], written_by=["policy", "policy", "opponent"])
        assert against == [0.0, 1.0, None]
    with serving(say=lambda prompt: "[[A]]") as server:  # who is first wins: no one is better
        function = reward(judge={"judge": "http:judge-1", "base_url": server.url})
        assert call(function, ["a", "ccc"]) == [0.5, 0.5]


def test_what_cannot_be_judged_earns_nothing_and_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoints, "BACK_OFF", 0.01)
    with serving(say=lambda prompt: "[[A]]" if "fine" in prompt and "odd" not in prompt else "Well.") as server:
        function = reward(judge={"judge": "http:judge-1", "base_url": server.url})
        assert call(function, ["fine", "fine too", "odd"]) == [0.5, 0.5, None]
        call(function, ["fine", "fine too", "odd"])
    said = capsys.readouterr().err
    assert said.count("gives a completion no reward: has no verdict") == 1


def test_graded_judges_see_each_by_itself() -> None:
    function = reward(judge={"judge": "rule:longer", "instructions": "graded"})
    assert not compares(function)
    assert call(function, ["a", "ccc"]) == [1.0, 3.0]
    with serving() as server:
        function = reward(judge={"judge": "http:judge-1", "base_url": server.url, "instructions": "graded-reference"})
        assert call(function, ["a" * 20], reference=["Because."]) == [3.0]
        assert "Because." in server.bodies[0]["messages"][1]["content"]


def test_a_panel_rewards(tmp_path: Path) -> None:
    (tmp_path / "panel.yaml").write_text("judges: [rule:longer, {judge: rule:longer, name: b}, rule:shorter]\n")
    function = reward(judge=str(tmp_path / "panel.yaml"))
    assert call(function, ["a", "ccc"]) == [0.0, 1.0]
    assert function.inputs() == [tmp_path / "panel.yaml"]


def test_mistakes_are_told_before_training(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="knows verdicts on answers that are written already"):
        reward(judge="recorded:x.jsonl")
    with pytest.raises(UserError, match="has no endpoint"):
        reward(judge="http:m")
    with pytest.raises(UserError, match="no such key; there are"):
        reward(judge={"judge": "rule:longer", "votez": 3})


def test_a_local_judge_is_part_of_what_a_run_is() -> None:
    function = reward(judge={"judge": "local:asset:stories260k", "max_tokens": 4})
    assert function.in_process
    assert {path.name for path in function.inputs()} >= {"model.safetensors", "config.json"}
