"""Rounds as the page tells them, from the lines of metrics.jsonl alone."""

from __future__ import annotations

from pathlib import Path

from pages import read
from report.simulated import write_lines, write_run

from align.report.folder import read_run
from align.report.measured.rounds import rounds_of, rounds_section
from align.report.page import write


def lines(steps: int) -> list[dict[str, float]]:
    """Rounds of three steps; what is known of a round is told with its first step, what was held out with its last."""
    found: list[dict[str, float]] = []
    for step in range(1, steps + 1):
        number, at = divmod(step - 1, 3)
        line = {"step": step, "loss": 0.5, "learning_rate": 1e-3 / (at + 1), "beta": 10.0**number}
        line |= {"approx_kl": at / 100}
        if at == 0:
            line |= {"num_rounds": number, "reward": 0.1 + number / 10, "completion_length": 20, "equal_groups": 0.25}
        if at == 2:
            line |= {"eval/reward": 0.3 + number / 10, "eval/reward_stderr": 0.02, "eval/completion_length": 30}
        found.append(line)
    return found


def test_each_round_has_its_line(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "accelerated_po")
    write_lines(run / "metrics.jsonl", lines(6))
    assert [(r.number, r.first, r.last) for r in rounds_of(read_run(run))] == [(1, 1, 3), (2, 4, 6)]
    words = read(write([run])).words
    assert "Reward by round" in words
    head = "Round Steps Reward written Reward held out Tokens written Tokens held out Prompts without a pair"
    assert f"{head} KL, nats a token Beta Learning rate" in words
    assert "1 1 to 3 0.1 0.30 ± 0.02 20 30 25 % 0.02 1 0.001" in words
    assert "2 4 to 6 0.2 0.40 ± 0.02 20 30 25 % 0.02 10 0.001" in words


def test_a_round_that_has_not_ended_is_told_as_far_as_it_is(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "accelerated_po")
    write_lines(run / "metrics.jsonl", lines(4))
    found = read_run(run)
    assert [(r.number, r.last, r.held_out(found, "reward")) for r in rounds_of(found)][1] == (2, 4, None)
    assert "4 to 4" in read(write([run])).words


def test_other_runs_have_none(tmp_path: Path) -> None:
    assert rounds_section(read_run(write_run(tmp_path / "dpo"))) == []
