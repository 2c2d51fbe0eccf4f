"""Runs with an environment, through the real command: learned, replayed, stopped by its failure, and gone on with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import kills
import pytest
from small_runs import lines, metrics, same, train, weights

from align.cli.main import main
from align.rewards.verdicts import RewardFunctions

ENVIRONMENT = '''
"""A user's own file: it asks on after every full stop, once, and fails where it is told to."""

import os
import subprocess
from pathlib import Path


def ask(prompt, text, columns):
    if Path("fail").exists() and len(Path("calls").read_text()) > 30:
        raise KeyError("no such tool")
    with Path("calls").open("a") as calls:
        calls.write(".")
    return " Then what?" if text.count("Then what?") < 1 else None
'''
RECIPE = """
method: {name: grpo}
model: {model_name_or_path: "asset:stories260k"}
data: {train: "asset:story_openings/train.jsonl", validation: 0.1, num_rows: 40, max_length: 64}
rollout: {num_generations: 3, max_completion_length: 32, max_rows: 3, environment: "my_tool:ask", max_turns: 3,
          stop_strings: [".", ","], record: true}
reward: {functions: [{name: contains, settings: {words: [the, she, he, was, happy, and], count: share}}]}
optim: {learning_rate: 1.0e-3, lr_scheduler_type: constant}
training: {batch_size: 4, max_steps: 4, save_steps: 1, eval_steps: 2, max_eval_rows: 2}
logging: {num_completions: 2, max_completion_length: 8}
"""


@pytest.fixture
def recipe(tmp_path: Path, own_module: Callable[[str, str], None]) -> Path:
    own_module("my_tool", ENVIRONMENT)
    (tmp_path / "calls").write_text("")
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return tmp_path / "recipe.yaml"


def test_a_run_that_its_environment_stops_goes_on_as_if_it_had_not(recipe: Path, capsys: pytest.CaptureFixture[str]):
    whole = train(recipe, Path("whole"))
    said = [t for path in sorted((whole / "rollouts").glob("*.jsonl")) for t in lines(path)]
    assert {t["stop"] for t in said} > {"environment"}
    assert all(len(t["mask"]) == len(t["tokens"]) == len(t["logps"]) for t in said)
    assert any("Then what?" in t["text"] for t in said)
    assert all(logp == 0 for t in said for logp, mine in zip(t["logps"], t["mask"], strict=True) if not mine)
    assert all(0 < line["environment_tokens"] < 1 for line in metrics(whole) if "reward" in line)

    Path("calls").write_text("")
    Path("fail").touch()
    assert main(["train", str(recipe), "training.output_dir=cut"]) == 1
    error = capsys.readouterr().err
    assert "rollout.environment my_tool:ask: step " in error
    assert "KeyError: 'no such tool'" in error
    assert "go on with --resume" in error
    Path("fail").unlink()
    assert main(["train", str(recipe), "training.output_dir=cut", "--resume"]) == 0
    assert same(weights(whole), weights(Path("cut")))
    assert metrics(whole) == metrics(Path("cut"))
    for path in (whole / "rollouts").glob("*.jsonl"):
        assert lines(path) == lines(Path("cut/rollouts", path.name))

    again = train(recipe, Path("again"), "rollout.record=false", "rollout.replay=whole")
    assert same(weights(whole), weights(again))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("rollout.environment=my_tool:tell",), "rollout.environment: module 'my_tool' has no attribute 'tell'"),
        (("rollout.environment=my_tool:__doc__",), "rollout.environment: str is not callable; name a function"),
        (("rollout.max_turns=0",), "rollout.max_turns: found 0; expected 1 or more"),
        (("rollout.environment=null",), "rollout.max_turns: has no effect without rollout.environment"),
    ],
)
def test_mistakes_are_told_by_check(
    recipe: Path, words: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
):
    assert main(["check", str(recipe), *words]) == 2
    assert told in capsys.readouterr().err


def test_rewards_see_the_whole_text(recipe: Path, monkeypatch: pytest.MonkeyPatch):
    seen: list[str] = []
    ask = RewardFunctions.__call__

    def noted(self: RewardFunctions, samples: list) -> list:
        seen.extend(str(s.completion) for s in samples)
        return ask(self, samples)

    monkeypatch.setattr(RewardFunctions, "__call__", noted)
    train(recipe, Path("run"), "training.max_steps=1", "training.eval_steps=0")
    assert any("Then what?" in text for text in seen)


def test_a_kill_leaves_no_trace(recipe: Path):
    assert kills.ended(kills.begin(recipe, Path("whole"))) == 0
    child = kills.begin(recipe, Path("cut"))
    for number in (0, 2):
        log = Path(f"cut/rollouts/{number:06d}.jsonl")
        assert kills.wait_for(child, lambda log=log: len(kills.lines(log)) >= 6), Path("cut.log").read_text()
        kills.kill(child)
        child = kills.begin(recipe, Path("cut"), "--resume")
    assert kills.ended(child) == 0
    kills.assert_same_run(Path("cut"), Path("whole"), 4)
