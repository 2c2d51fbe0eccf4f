"""Completions that begin in the middle of others: what is asked for, what a kill does, and what is told of it."""

from __future__ import annotations

from pathlib import Path

import kills
import pytest
from small_runs import assert_resumes, lines, same, train, weights

from align.cli.main import main

RUN = (
    "data.num_rows=60", "rollout.num_generations=3", "method.num_restarts=2", "rollout.max_rows=8",
    "training.batch_size=4", "training.max_steps=6", "training.eval_steps=6", "training.num_train_epochs=null",
    "training.save_steps=1", "training.save_total_limit=20", "logging.num_completions=0", "rollout.record=true",
)  # fmt: skip


def test_a_run_resumes_bitwise_and_replays_its_restarts(tmp_path: Path):
    whole = train("vineppo", tmp_path / "whole", *RUN)
    written = lines(whole / "rollouts" / "000000.jsonl")
    own = [t for t in written if not t["auxiliary"]]
    begun = {(t["number"], t["source"], t["given"]) for t in written if t["auxiliary"]}
    assert all(t["steps"] == list(range(0, len(t["tokens"]), 2))[: len(t["steps"])] for t in own)
    assert {given for _, _, given in begun} == {0, 2}
    told = next(line for line in lines(whole / "metrics.jsonl") if "auxiliary" in line)
    assert told["auxiliary"] == 2 * len(begun) == len(written) - len(own)
    assert told["auxiliary_tokens"] == sum(len(t["tokens"]) for t in written if t["auxiliary"])
    assert told["written_tokens"] == sum(len(t["tokens"]) for t in written)
    for step in (2, 3):
        assert_resumes("vineppo", whole, tmp_path, step, *RUN)
    again = train(whole / "recipe.yaml", tmp_path / "again", "rollout.record=false", f"rollout.replay={whole}")
    assert same(weights(whole), weights(again))


def test_kills_within_restarts_and_audits_leave_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)

    def restarting(number: int) -> kills.Sign:
        return lambda out: sum(bool(t["auxiliary"]) for t in kills.lines(out / f"rollouts/{number:06d}.jsonl")) >= 8

    def looked_at(out: Path) -> bool:
        return (out / "values/000001.jsonl").exists()

    audited = (*RUN, "rollout.audit={num_states: 4, num_samples: 4, every: 1}")
    kills.assert_no_trace(Path("vineppo"), tmp_path, [restarting(0), looked_at, restarting(2)], *audited)
    values = {p.name: p.read_text() for p in (tmp_path / "whole/values").iterdir()}
    assert values
    assert values == {p.name: p.read_text() for p in (tmp_path / "cut/values").iterdir()}


def test_a_checkpoint_keeps_none_of_what_only_helped(tmp_path: Path):
    run = train("vineppo", tmp_path / "run", *RUN, "training.max_steps=1")
    kept = run / "checkpoints" / "step-000001" / "experience.pt"
    assert kept.stat().st_size < 60_000


@pytest.mark.parametrize(
    ("recipe", "words", "told"),
    [
        ("vineppo", ("rollout.steps=newlin",), "rollout.steps: no such segmenter: newlin; there are newline, gsm8k"),
        ("vineppo", ("rollout.steps=nowhere:steps",), "rollout.steps: segmenter nowhere:steps: "),
        ("grpo", ("rollout.steps=gsm8k",), "rollout.steps: has no effect: nothing is done with the steps"),
        ("vineppo", ("rollout.environment=align.lab.calculator:answer",), "rollout.environment: answers whole turns"),
        ("grpo", ("rollout.audit={num_states: 4}",), "rollout.audit: the method values no states; remove the section"),
        ("ppo", ("rollout.audit={num_samples: 1}",), "rollout.audit.num_samples: found 1; expected 2 or more"),
    ],
)
def test_mistakes_are_told_by_check(recipe: str, words: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]):
    assert main(["check", recipe, *words]) == 2
    assert told in capsys.readouterr().err
