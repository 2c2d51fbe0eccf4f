"""Gates: their form, their side of an interval, exit codes, and the record of looks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from judged import both_orders, folder_of, run_of, world

from align.errors import RunError, UserError
from align_eval.analysis.comparison import Comparison, Quantity
from align_eval.analysis.gate import Gate, gate_of, judge, look
from align_eval.cli import main
from align_eval.statistics.estimate import Estimate


def one(low: float, high: float, name: str = "delta") -> Comparison:
    found = Estimate(value=(low + high) / 2, low=low, high=high, level=0.95, method="by hand")
    return Comparison(before="b", after="a", quantities={name: Quantity(estimate=found)})


def test_its_form():
    assert gate_of("delta > 0 at 95%") == Gate(name="delta", side=">", bound=0.0, level=0.95)
    assert gate_of(" gsm8k:accuracy_flexible>-0.02 at 90 % ").bound == -0.02
    assert gate_of("delta[o/j x] < .5 at 99.5%") == Gate(name="delta[o/j x]", side="<", bound=0.5, level=0.995)
    assert str(gate_of("win_rate > 0.5 at 95%")) == "win_rate > 0.5 at 95%"


@pytest.mark.parametrize(
    "text", ["", "delta > 0", "delta >= 0 at 95%", "delta > x at 95%", "> 0 at 95%", "delta > 0 at 100%"]
)
def test_another_form_is_refused(text: str):
    with pytest.raises(UserError, match="expected NAME > NUMBER at LEVEL%"):
        gate_of(text)


@pytest.mark.parametrize(
    ("text", "low", "high", "passed"),
    [("delta > 0 at 95%", 0.01, 0.3, True), ("delta > 0 at 95%", 0.0, 0.3, False),
     ("delta > 0 at 95%", -0.1, 0.9, False), ("delta < 0 at 95%", -0.3, -0.1, True),
     ("delta < 0 at 95%", -0.3, 0.1, False), ("delta > -0.05 at 95%", -0.04, 0.1, True)],
)  # fmt: skip
def test_the_whole_interval_must_be_on_its_side(text: str, low: float, high: float, passed: bool):
    assert judge(gate_of(text), one(low, high)).passed == passed


def test_what_cannot_be_judged_is_no_pass_and_no_fail():
    with pytest.raises(UserError, match=r"no number 'detla'; there are delta. Did you mean delta"):
        judge(gate_of("detla > 0 at 95%"), one(0, 1))
    few = Quantity(estimate=Estimate(value=0.1, why="too few"))
    none = Comparison(before="b", after="a", quantities={"delta": few})
    with pytest.raises(RunError, match="has no interval: too few"):
        judge(gate_of("delta > 0 at 95%"), none)


def seen(values: np.ndarray, after: str = "a") -> Comparison:
    found = Quantity(estimate=Estimate(value=float(values.mean())), values=values, bounds=(-1.0, 1.0))
    return Comparison(before="b", after=after, quantities={"delta": found})


def test_looks_are_counted_and_the_same_one_twice_is_one(tmp_path: Path):
    record, gate = tmp_path / "looks.jsonl", gate_of("delta > 0 at 95%")
    values = np.array([1.0] * 60 + [-1.0] * 20)
    first = look(gate, seen(values), record)
    assert first.passed
    assert "look 1: passed: 0.5, at least 0.1" in first.told
    assert look(gate, seen(values), record) == first
    second = look(gate, seen(values, "checkpoint-2"), record)
    assert "look 2" in second.told
    assert len(record.read_text().splitlines()) == 2
    assert not look(gate, seen(np.zeros(80), "checkpoint-3"), record).passed
    with pytest.raises(UserError, match="is of the gate 'delta > 0 at 95%', not of 'delta > 0 at 90%'"):
        look(gate_of("delta > 0 at 90%"), seen(values), record)
    with pytest.raises(UserError, match="between known bounds"):
        look(gate, one(0, 1), tmp_path / "other")


def test_later_looks_need_more_evidence(tmp_path: Path):
    values = np.array([1.0] * 60 + [-1.0] * 20)
    assert look(gate_of("delta > 0 at 95%"), seen(values), tmp_path / "one").passed
    rows = [{"look": k, "gate": "delta > 0 at 95%", "before": "b", "after": str(k)} for k in range(1, 200)]
    (tmp_path / "many").write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert not look(gate_of("delta > 0 at 95%"), seen(values), tmp_path / "many").passed


def test_the_other_side_is_the_mirror(tmp_path: Path):
    values = np.array([1.0] * 60 + [-1.0] * 20)
    up = look(gate_of("delta > 0 at 95%"), seen(values), tmp_path / "up")
    down = look(gate_of("delta < 0 at 95%"), seen(-values), tmp_path / "down")
    assert (up.passed, down.passed) == (True, True)
    assert "-0.5, at most -0.1" in down.told


def test_false_alarms_over_fifty_looks_are_rare(tmp_path: Path):
    """40 sequences of 50 checkpoints that are no better, on the same prompts: a plain gate opens in half of them."""
    from align_eval.statistics.sequential import log_evidence, log_needed

    random = np.random.default_rng(0)
    opened = 0
    for _ in range(40):
        shared = random.choice([-1.0, 1.0], size=200)
        looks = (np.where(random.random(200) < 0.6, shared, random.choice([-1.0, 1.0], size=200)) for _ in range(50))
        opened += any(log_evidence(x, 0.0) >= log_needed(k) for k, x in enumerate(looks, start=1))
    assert opened <= 2  # 5 %


def test_exit_codes_of_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = str(folder_of(tmp_path / "e", world({"old": 0.0, "new": 1.5}, 60)))
    words = ["compare", "old", "new", "-e", folder]
    assert main([*words, "--gate", "delta > 0 at 95%"]) == 0
    assert "gate delta > 0 at 95%: passed" in capsys.readouterr().out
    assert main([*words, "--gate", "delta > 0.9 at 95%"]) == 3
    assert "not passed" in capsys.readouterr().err
    assert main([*words, "--gate", "win_rate > 0.5 at 99%", "--gate-sequence", str(tmp_path / "looks.jsonl")]) == 0
    assert "look 1: passed" in capsys.readouterr().out
    assert main([*words, "--gate", "speed > 0 at 95%"]) == 2
    assert main([*words, "--gate", "delta"]) == 2
    assert main([*words, "--gate-sequence", str(tmp_path / "x")]) == 2
    assert main(["compare", "old", "new", "--judge", "J"]) == 2
    nobody = str(folder_of(tmp_path / "none", both_orders("p", "old", "new", [None, None])))
    assert main(["compare", "old", "new", "-e", nobody, "--gate", "delta > 0 at 95%"]) == 1


def test_gates_on_two_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    before = str(run_of(tmp_path / "b", [0.0, 1.0] * 40))
    after = str(run_of(tmp_path / "a", [1.0, 1.0] * 39 + [0.0, 1.0]))
    words = ["compare", before, after, "--gate"]
    assert main([*words, "accuracy > 0.3 at 95%"]) == 0
    out = capsys.readouterr().out
    assert "paired, 80 rows, better" in out  # what the command has always told
    assert "gate accuracy > 0.3 at 95%: passed: 0.4875" in out
    assert main([*words, "accuracy > 0.6 at 95%"]) == 3
    assert main([*words, "accuracy > 0 at 95%", "--gate-sequence", str(tmp_path / "looks")]) == 0
    assert main([*words, "accuracy > 0 at 95%", "--gate-sequence", str(tmp_path / "looks")]) == 0
    assert len((tmp_path / "looks").read_text().splitlines()) == 1
