"""Warnings and headline of a policy that writes: each on a run that deserves it, none on a good one."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from report.simulated import write_json, write_lines, write_run

from align.report.curves import frontier
from align.report.findings import findings
from align.report.folder import Run, read_run
from align.report.headline import headline

STEPS, PER_PHASE = 80, 4
Line = dict[str, float]


def steps() -> list[Line]:
    """A reward that rises at a KL that grows, four steps an experience; the loss goes nowhere, as it does."""
    dice, lines = random.Random(3), list[Line]()
    for step in range(1, STEPS + 1):
        done = step / STEPS
        line = {
            "step": step,
            "loss": dice.gauss(0, 0.05),
            "entropy": 1.4 - 0.3 * done,
            "ratio": 1 + dice.gauss(0, 0.02),
        }
        line |= {"grad_norm": 1 + dice.random(), "sampler_gap": 1e-6}
        if step % PER_PHASE == 1:
            line |= {"reward": 0.2 + 0.5 * done, "kl": 4 * done + dice.gauss(0, 0.1), "truncated": 0.1, "ratio": 1.0}
            line |= {"equal_groups": 0.2, "failed_rewards": 0.0}
        lines.append(line)
    return lines


def run_of(folder: Path, change: Callable[[Line], Line] = lambda line: {}) -> Run:
    run = write_run(folder, steps=STEPS)
    (run / "test.json").unlink()
    (run / "completions.jsonl").unlink(missing_ok=True)
    write_lines(run / "metrics.jsonl", [line | change(line) for line in steps()])
    return read_run(run)


def told(run: Run) -> str:
    return " ".join(f.text for f in findings(run))


def test_a_good_run_is_left_in_peace(tmp_path: Path):
    assert told(run_of(tmp_path / "ppo")) == ""


def test_cut_completions_are_told_once(tmp_path: Path):
    run = run_of(tmp_path / "ppo", in_phases(truncated=0.9))
    lines = [{"prompt": "a", "text": "b", "step": step, "stop_reason": "length"} for step in (0, STEPS)]
    write_lines(run.path / "completions.jsonl", lines)
    assert told(read_run(run.path)).count(" cut at ") == 1


def in_phases(**values: float) -> Callable[[Line], Line]:
    return lambda line: values if "reward" in line else {}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (in_phases(equal_groups=0.8), "80.0 % of the prompts had completions that all earned the same"),
        (in_phases(truncated=0.75), "75.0 % of the last completions were cut at rollout.max_completion_length"),
        (in_phases(kl=-0.5), "negative for most of the second half, -0.5 on average"),
        (in_phases(ratio=1.2), "pi / pi_old was not 1 (1.2 at step"),
        (in_phases(failed_rewards=0.25), "25.0 % of the completions could not be judged"),
        (lambda line: {"sampler_gap": 0.2}, "0.2 nats a token away from the trainer's"),
        (lambda line: {"entropy": 1.4 / line["step"]}, "The entropy collapsed from"),
    ],
)
def test_each_speaks_where_it_should(change: Callable[[Line], Line], words: str, tmp_path: Path):
    assert words in told(run_of(tmp_path / "ppo", change))


def test_the_headline_is_the_reward_and_what_it_cost(tmp_path: Path):
    run_of(tmp_path / "ppo")
    reward: dict[str, Any] = {"value": 0.71, "stderr": 0.03, "n": 80, "rows": []}
    earlier = {"reward": {"value": 0.2, "stderr": 0.02, "n": 80, "rows": []}}
    write_json(tmp_path / "ppo" / "test.json", {"reward": reward, "before": earlier})
    said = " ".join(headline(read_run(tmp_path / "ppo")))
    assert "0.71 ± 0.03" in said
    assert "on 80 held-out test prompts; before training" in said
    assert "0.20 ± 0.02" in said
    assert "nats a completion away from the reference" in said


def test_reward_is_drawn_against_the_divergence_where_both_were_told(tmp_path: Path):
    run = run_of(tmp_path / "ppo")
    assert [one.title for one in frontier([run])] == ["Reward against KL, nats a completion"]
    assert frontier([replace(run, steps=[{k: v for k, v in line.items() if k != "kl"} for line in run.steps])]) == []


def test_without_held_out_prompts_the_headline_is_the_reward_in_training(tmp_path: Path):
    (said,) = headline(run_of(tmp_path / "ppo"))
    assert "earned <strong>" in said
    assert "in training at the end" in said
    assert "no prompts were held out" in said
