"""Warnings: each one speaks on a run that deserves it, and none does on a good run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from report.simulated import completions, preference_steps, write_json, write_lines, write_run

from align.report.findings import findings
from align.report.folder import Run, read_run
from align.report.headline import compare, headline
from align.report.measures import Measure

Steps = list[dict[str, float]]


def told(run: Run) -> str:
    return " ".join(f.text for f in findings(run))


def changed(folder: Path, change: Callable[[Steps], Steps], **settings: object) -> Run:
    run = write_run(folder, steps=200, **settings)
    (run / "test.json").unlink()
    write_lines(run / "metrics.jsonl", change(preference_steps(200, 0)))
    return read_run(run)


def test_a_good_run_is_left_in_peace(tmp_path: Path) -> None:
    assert findings(read_run(write_run(tmp_path / "dpo"))) == []


def test_rising_loss(tmp_path: Path) -> None:
    reverse = lambda steps: [s | {"loss": o["loss"]} for s, o in zip(steps, steps[::-1], strict=True)]  # noqa: E731
    assert "The training loss rose from 0." in told(changed(tmp_path / "up", reverse))


def test_validation_loss_that_turns(tmp_path: Path) -> None:
    def turn(steps: Steps) -> Steps:
        return [s | ({"eval/loss": 0.3 + abs(s["step"] - 100) / 500} if "eval/loss" in s else {}) for s in steps]

    assert "rose from its lowest, 0.30 ± 0.02 at step 100, to 0.50 ± 0.02 at step 200" in told(
        changed(tmp_path / "u", turn)
    )


@pytest.mark.parametrize(
    ("value", "words"), [(0.53, "within two standard errors of chance"), (0.31, "below chance"), (0.62, "")]
)
def test_accuracy_at_chance(tmp_path: Path, value: float, words: str) -> None:
    def settle(steps: Steps) -> Steps:
        return [s | ({"eval/accuracy": value, "eval/accuracy_stderr": 0.05} if "eval/loss" in s else {}) for s in steps]

    found = told(changed(tmp_path / "dpo", settle))
    assert words in found
    assert ("chance" in found) == bool(words)


def test_token_accuracy_has_no_chance_level(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "sft", "sft"))
    assert not run.evaluations("accuracy")
    assert "chance" not in told(run)
    assert headline(run)[0].startswith("SFT predicts <strong>")
    tokens = {"value": 0.43, "stderr": 0.01, "n": 110}
    write_json(
        run.path / "test.json", {"token_accuracy": tokens, "before": {"token_accuracy": tokens | {"value": 0.2}}}
    )
    tested = headline(read_run(run.path))
    assert "of held-out test tokens; before training" in tested[0]
    assert tested[0].endswith("20.0 ± 1.0 %</data>.")
    assert not [sentence for sentence in tested if "against" in sentence], "a metric is no baseline of another"


def test_gradient_spikes(tmp_path: Path) -> None:
    found = told(
        changed(tmp_path / "s", lambda s: [x | ({"grad_norm": 99.5} if x["step"] in (70, 150) else {}) for x in s])
    )
    assert "2 times above 8 times its median" in found
    assert "99.5, at step 70" in found


def test_not_finite(tmp_path: Path) -> None:
    found = told(
        changed(tmp_path / "n", lambda s: [x | ({"loss": float("nan")} if x["step"] == 31 else {}) for x in s])
    )
    assert "Loss was not a finite number at one step: 31." in found


def test_early_stopping_is_told_where_the_run_says_so(tmp_path: Path) -> None:
    def stall(steps: Steps) -> Steps:
        kept = [s for s in steps if s["step"] <= 120]
        return [s | ({"eval/loss": 0.3 if s["step"] == 60 else 0.31} if "eval/loss" in s else {}) for s in kept]

    changed(tmp_path / "a", stall, training__early_stopping_patience=3)
    write_json(tmp_path / "a/outcome.json", {"step": 120, "num_steps": 200, "ended_early": True, "final_step": 60})
    assert (
        "Early stopping ended the run at step 120: the validation loss did not improve on 0.30 ± 0.02 at step 60"
        in told(read_run(tmp_path / "a"))
    )
    changed(tmp_path / "b", stall, training__early_stopping_patience=3)
    assert "Early" not in told(read_run(tmp_path / "b"))  # it may have been killed
    write_json(tmp_path / "b/outcome.json", {"step": 120, "num_steps": 120, "ended_early": False, "final_step": 120})
    assert "Early" not in told(read_run(tmp_path / "b"))
    by_hand = {"step": 120, "num_steps": 200, "ended_early": True, "final_step": 120, "ended_by": "onlooker"}
    write_json(tmp_path / "b/outcome.json", by_hand)
    words = "Ended at step 120 by who looked on (`on_step`, or a callback), before its last step."
    assert words in told(read_run(tmp_path / "b"))
    assert "Early" not in told(read_run(tmp_path / "b"))


def test_cut_completions_count_only_those_of_the_last_step(tmp_path: Path) -> None:
    run = write_run(tmp_path / "dpo")
    lines = completions(0)
    for line in lines:
        del line["stage"]
        line["stop_reason"] = "length" if line["step"] == 0 else "eos"
    write_lines(run / "completions.jsonl", lines)
    assert "cut" not in told(read_run(run))
    for line in lines[-4:]:
        line["stop_reason"] = "StopReason.LENGTH"
    write_lines(run / "completions.jsonl", lines)
    assert "2 of 4 completions after training were cut" in told(read_run(run))


def test_dropped_rows(tmp_path: Path) -> None:
    run = write_run(tmp_path / "dpo")
    splits = {
        "train": {"split": "train", "source": "a.jsonl", "read": 50, "dropped": {"cannot be used": 50}},
        "test": {"split": "test", "source": "b.jsonl", "read": 100, "dropped": {"longer than max_length": 11}},
        "validation": {
            "split": "validation",
            "source": "c.jsonl",
            "read": 100,
            "dropped": {"longer than max_length": 10},
        },
    }
    write_json(run / "data.json", {"splits": splits})
    found = told(read_run(run))
    assert "All 50 rows of a.jsonl, train were dropped: cannot be used 50." in found
    assert "b.jsonl, test was dropped, 11 of 100 rows" in found
    assert "c.jsonl" not in found


def test_baseline_that_is_as_good(tmp_path: Path) -> None:
    run = write_run(tmp_path / "dpo")
    test = json.loads((run / "test.json").read_text())
    test["baselines"]["bag_of_words_accuracy"] = {"value": 0.85, "stderr": 0.034, "n": 110}
    write_json(run / "test.json", test)
    assert "Not better than bag of words by two standard errors: 89 ± 3 % against 85 ± 3 %." in told(read_run(run))


def test_before_training_is_not_told_where_every_pair_is_a_tie(tmp_path: Path) -> None:
    start = {"step": 0, "eval/loss": 0.6931, "eval/loss_stderr": 0.0, "eval/accuracy": 0.0, "eval/accuracy_stderr": 0.0}
    tied = changed(tmp_path / "tie", lambda s: [start | {"eval/margin": 0.0}, *s])
    apart = changed(tmp_path / "apart", lambda s: [start | {"eval/accuracy": 0.55, "eval/margin": 0.2}, *s])
    assert "before training every pair is a tie" in headline(tied)[0]
    assert "before training <data" in headline(apart)[0]
    run = write_run(tmp_path / "test")
    test = json.loads((run / "test.json").read_text())
    test["before"] = {
        "accuracy": {"value": 0.0, "stderr": 0.0, "n": 110},
        "margin": {"value": 0.0, "stderr": 0.0, "n": 110},
    }
    write_json(run / "test.json", test)
    assert "of 110 held-out test pairs rightly; before training every pair is a tie." in headline(read_run(run))[0]


def test_differences_are_paired_only_over_the_same_plain_means() -> None:
    a = Measure(value=0.75, stderr=0.25, n=4, rows=(1.0, 1.0, 1.0, 0.0))
    b = Measure(value=0.5, stderr=0.29, n=4, rows=(1.0, 1.0, 0.0, 0.0))
    gap = compare(a, b)  # differences 0, 0, 1, 0: mean 1/4, variance 1/4, over 4 rows
    assert (gap.value, gap.stderr) == (0.25, pytest.approx(0.25))
    other = Measure(value=0.5, stderr=0.29, n=4, rows=b.rows, ids=("4", "5", "6", "7"))
    weighted = Measure(value=0.6, stderr=0.29, n=4, rows=b.rows)  # by tokens: not the mean of its rows
    for unlike in (other, weighted):
        assert compare(a, unlike).stderr == pytest.approx((0.25**2 + 0.29**2) ** 0.5)
        assert compare(a, unlike).value == a.value - unlike.value
