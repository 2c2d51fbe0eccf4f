"""Frontiers of runs from their logs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import align_eval
from align.errors import UserError
from align_eval.analysis.frontier import frontier
from align_eval.cli import main
from align_eval.results.reading import read


def run_folder(folder: Path, rows: list[dict[str, Any]]) -> Path:
    folder.mkdir()
    (folder / "recipe.yaml").write_text("name: x\nmethod: {name: grpo}\nreward: {functions: [length]}\n")
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def online(folder: Path, points: list[tuple[float, float]]) -> Path:
    """An evaluation every ten steps: (divergence that the next experience measures, reward)."""
    rows: list[dict[str, Any]] = []
    for k, (kl, reward) in enumerate(points):
        rows += [{"step": 10 * k, "eval/reward": reward, "eval/reward_stderr": 0.01, "eval/n": 50,
                  "eval/completion_length": 20.0 + k, "eval/completion_length_stderr": 1.0}]  # fmt: skip
        rows += [{"step": 10 * k + 1, "reward": reward, "kl": kl}]
    return run_folder(folder, rows)


def test_points_and_what_runs_earn_at_equal_divergence(tmp_path: Path):
    one = online(tmp_path / "one", [(0.0, 0.1), (4.0, 0.5), (9.0, 0.4)])
    two = online(tmp_path / "two", [(0.0, 0.1), (1.0, 0.2), (4.0, 0.3)])
    found = frontier([one, two])
    first = found.points[1]
    assert (first.run, first.step, first.kl.value, first.reward.value) == ("one", 10, 4.0, 0.5)
    assert first.reward.low == pytest.approx(0.5 - 1.96 * 0.01, abs=1e-4)
    assert first.reward.n == 50
    assert first.length is not None
    assert (first.length.value, first.length.unit) == (21.0, "tokens")
    assert found.peaks == {"one": (4.0, 0.5)}
    at_four = found.equal[-1]
    assert (at_four.a, at_four.b, at_four.kl) == ("one", "two", 4.0)
    assert at_four.difference.value == pytest.approx(0.2)
    assert at_four.difference.low == pytest.approx(0.2 - 1.96 * 0.0141, abs=0.006)
    assert all(row.kl <= 4.0 for row in found.equal)  # run two has not been further


def test_runs_without_a_common_divergence_are_not_compared(tmp_path: Path):
    one = online(tmp_path / "one", [(1.0, 0.1), (2.0, 0.5)])
    two = online(tmp_path / "two", [(3.0, 0.1), (4.0, 0.2)])
    found = align_eval.frontier([one, two])
    assert found.equal == []
    assert found.warnings == ["one and two have no divergence in common, and are not compared"]


def test_rewards_of_different_functions_have_no_axis_in_common(tmp_path: Path):
    one, two, three = (online(tmp_path / name, [(0.0, 0.1), (4.0, 0.5)]) for name in ("one", "two", "three"))
    (two / "recipe.yaml").write_text("name: x\nmethod: {name: grpo}\nreward: {functions: [contains]}\n")
    with pytest.raises(UserError, match=r"reward is not the same quantity.*by itself: one and three; two$"):
        frontier([one, two, three])
    assert len(frontier([one, three]).points) == 4


def test_a_run_without_evaluations_has_its_training(tmp_path: Path):
    rows = [{"step": k, "reward": k / 100, "kl": k / 10, "completion_length": 5.0} for k in range(1, 21)]
    found = frontier([run_folder(tmp_path / "r", rows)])
    assert len(found.points) == 10
    first = found.points[0]
    assert (first.step, first.kl.value, first.reward.value) == (2, pytest.approx(0.15), pytest.approx(0.015))
    assert first.reward.method == "Student's t over steps"
    assert "training rewards" in found.warnings[0]


def test_what_has_no_frontier_is_told(tmp_path: Path):
    plain = run_folder(tmp_path / "plain", [{"step": 1, "loss": 1.0}])
    with pytest.raises(UserError, match="logged no kl"):
        frontier([plain])
    with pytest.raises(UserError, match="has no metric rewards/x; it has reward, kl"):
        frontier([run_folder(tmp_path / "other", [{"step": 1, "reward": 1.0, "kl": 0.1}])], "rewards/x")


def test_the_command_writes_what_it_tells(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = online(tmp_path / "one", [(0.0, 0.1), (4.0, 0.5), (9.0, 0.4)])
    assert main(["frontier", str(run), "-o", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "one: the reward is highest, 0.5, at 4 nats, and falls from there" in out
    rows = read(tmp_path / "out").sections.frontier
    assert [row.kl.value for row in rows] == [0.0, 4.0, 9.0]
    assert main(["frontier", str(tmp_path / "nowhere")]) == 2
