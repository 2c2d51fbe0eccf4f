"""What was written once can be learned from again; and what a user's own reward file takes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from small_runs import lines, metrics, same, train, weights

from align.cli.main import main

WORDS = (
    *("data.num_rows=40", "training.num_train_epochs=null", "training.max_steps=4", "training.batch_size=4"),
    *("rollout.num_generations=3", "rollout.num_prompts=8", "rollout.max_completion_length=8"),
    *("training.eval_steps=0", "data.test=0.0", "data.validation=0.0", "logging.num_completions=0"),
)
SAME = ("rollout.max_refills=0", "rollout.num_iterations=2")  # as much as the recorded run wrote
OWN_REWARD = '''
"""A user's own file."""

def shouting(prompts, completions, **columns):
    return [sum(c.isupper() for c in text) for text in completions]
'''


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train("loop", tmp_path_factory.mktemp("recorded") / "run", *WORDS, "rollout.record=true")


def test_a_replay_learns_what_the_recorded_run_learned(recorded: Path, tmp_path: Path):
    again = train("loop", tmp_path / "again", *WORDS, f"rollout.replay={recorded}")
    assert same(weights(recorded), weights(again))
    assert metrics(recorded) == metrics(again)
    assert not (again / "rollouts").exists()


def test_another_method_can_learn_from_the_same_completions(recorded: Path, tmp_path: Path):
    other = train("dapo", tmp_path / "dapo", *WORDS, f"rollout.replay={recorded}", *SAME)
    first = [line["reward"] for line in (metrics(recorded)[0], metrics(other)[0])]
    assert first[0] == first[1]
    assert not same(weights(recorded), weights(other))


def test_what_another_recipe_has_begun_is_written_again(tmp_path: Path):
    words = (*WORDS, "rollout.num_iterations=1", "training.save_steps=2")  # two steps an experience
    whole = train("loop", tmp_path / "whole", *words)
    begun = lines(whole / "rollouts" / "000001.jsonl")
    assert {line["version"] for line in begun} == {2}
    for name, changes, kept in (("same", (), True), ("hotter", ("rollout.temperature=1.5",), False)):
        cut = tmp_path / name
        shutil.copytree(whole, cut, ignore=shutil.ignore_patterns("final", "step-000004"))
        with (cut / "rollouts" / "000001.jsonl").open("a") as torn:
            torn.write('{"step": 1, "row": 3')
        train(
            "loop", cut, *words, *changes, "--resume", *(("--allow-changes", "rollout.temperature") if changes else ())
        )
        assert (lines(cut / "rollouts" / "000001.jsonl") == begun) == kept
        assert len(lines(cut / "rollouts" / "000001.jsonl")) == len(begun)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("rollout.replay=nowhere",), "rollout.replay: nowhere holds no rollouts"),
        (("rollout.replay={run}", "rollout.record=true"), "rollout.record: conflicts with replay"),
        (
            ("rollout.replay={run}", "reward.functions=[{{name: repetition, weight: 2}}]"),
            "found repetition; the completions in rollout.replay were judged by contains, and their verdicts",
        ),
        (
            ("rollout.replay={run}", "reward.functions=[{{name: contains, settings: {{words: [sad]}}}}]"),
            'contains has the settings {"words": ["sad"]}; the completions in rollout.replay were judged by one with',
        ),
    ],
)
def test_a_replay_of_nothing_is_refused(
    words: tuple[str, ...], told: str, recorded: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["check", "loop", *WORDS, *(w.format(run=recorded) for w in words)]) == 2
    assert told in capsys.readouterr().err


def test_a_replay_that_does_not_fit_says_why(recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    words = (*WORDS, f"rollout.replay={recorded}", "rollout.num_generations=4")
    assert main(["train", "loop", *words, f"training.output_dir={tmp_path / 'run'}"]) == 1
    assert (
        "no completion 3 of prompt 0; the recorded run has other data, seed, num_generations" in capsys.readouterr().err
    )


def test_a_replay_that_is_too_short_says_so(recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    words = (*WORDS, f"rollout.replay={recorded}", "training.max_steps=12")
    assert main(["train", "loop", *words, f"training.output_dir={tmp_path / 'run'}"]) == 1
    assert "is not there or empty; record as long a run first" in capsys.readouterr().err
    assert len(lines(tmp_path / "run" / "metrics.jsonl")) == 4


def test_a_users_own_reward_takes_a_file_and_two_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_rewards.py").write_text(OWN_REWARD)
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("""
method: {name: rloo}
model: {model_name_or_path: "asset:stories260k"}
data: {train: "asset:story_openings/train.jsonl", max_length: 128}
reward:
  functions: ["my_rewards:shouting"]
""")
    run = train(recipe, tmp_path / "run", *WORDS)
    assert all(line["rewards/shouting"] > 0 for line in lines(run / "metrics.jsonl") if "reward" in line)
