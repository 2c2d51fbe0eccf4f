"""The data column `hints`: told where all completions fail, learned from where one helps, and its mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kills
import pytest
from small_runs import lines, metrics, same, train, weights, write_rows

from align.cli.main import main
from align.data.hints import hinted

ROWS = [
    {"prompt": f"Once upon a time, there was a {name}.", "hints": ["It was a sunny day.", f"The {name} was happy and"]}
    for name in ("cat", "dog", "bird", "fish", "bear", "frog", "duck", "cow")
]
RUN = (
    "data.validation=0.0", "data.test=0.0", "method.num_exempt=0", "rollout.num_generations=2",
    "rollout.max_completion_length=12", "training.batch_size=4", "training.max_steps=3", "training.eval_steps=0",
    "training.num_train_epochs=null", "training.save_steps=1", "logging.num_completions=0", "rollout.record=true",
    "training.save_total_limit=9", "reward.functions=[{name: contains, settings: {words: [and], count: any}}]",
)  # fmt: skip


def test_a_hint_stands_on_a_line_of_its_own_at_the_end():
    assert hinted("What is 2+3?", "Count on.") == "What is 2+3?\nCount on."
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is 2+3?"}]
    assert hinted(messages, "Count on.") == [messages[0], {"role": "user", "content": "What is 2+3?\nCount on."}]
    assert messages[1]["content"] == "What is 2+3?"


def test_a_run_tells_hints_learns_from_what_helped_and_resumes(tmp_path: Path):
    data = f"data.train={write_rows(tmp_path / 'rows.jsonl', ROWS)}"
    whole = train("scaf_grpo", tmp_path / "whole", data, *RUN)
    written = [t for path in sorted((whole / "rollouts").glob("*.jsonl")) for t in lines(path)]
    plain = {t["number"]: t["prompt"] for t in written if not t["auxiliary"]}
    told = [t for t in written if t["auxiliary"]]
    assert {t["hint"] for t in told} == {1, 2}
    assert all(t["learned"] and t["num_hints"] == 2 for t in told)
    for t in told:
        assert t["prompt"][: len(plain[t["number"]])] == plain[t["number"]]
        assert len(t["prompt"]) > len(plain[t["number"]])
    failed = {t["number"] for t in told}
    for number in failed:
        assert not any(sum(t["rewards"].values()) for t in written if t["number"] == number and not t["auxiliary"])
    assert any(line["hinted"] > 0 for line in lines(whole / "metrics.jsonl"))
    again = tmp_path / "again"
    train("scaf_grpo", again, data, *RUN, "--resume", str(whole / "checkpoints" / "step-000001"))
    assert same(weights(whole), weights(again))
    assert metrics(whole) == metrics(again)


def test_kills_while_hints_are_told_leave_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    data = f"data.train={write_rows(tmp_path / 'rows.jsonl', ROWS)}"

    def telling(number: int) -> kills.Sign:
        return lambda out: any(t["hint"] for t in kills.lines(out / f"rollouts/{number:06d}.jsonl"))

    kills.assert_no_trace(Path("scaf_grpo"), tmp_path, [telling(0), telling(1)], data, *RUN)


def asked(rows: list[dict[str, Any]], tmp_path: Path, *words: str) -> int:
    data = f"data.train={write_rows(tmp_path / 'rows.jsonl', rows)}"
    return main(["train", "scaf_grpo", data, f"training.output_dir={tmp_path / 'run'}", *RUN, *words])


def test_data_without_hints_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert asked([{"prompt": r["prompt"], "id": "x"} for r in ROWS], tmp_path) == 2
    error = capsys.readouterr().err
    assert "rows.jsonl has no column hints, which the method tells where completions fail" in error
    assert "There are prompt, id" in error


def test_hints_that_are_no_texts_are_told_with_their_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for wrong in ("Count on.", ["Count on.", 3], [""]):
        assert asked([*ROWS[:3], {**ROWS[3], "hints": wrong}, *ROWS[4:]], tmp_path) == 2
        error = capsys.readouterr().err
        assert f"rows.jsonl: row 4: hints is {wrong!r}; expected a list of texts" in error
        assert not (tmp_path / "run" / "metrics.jsonl").exists()
        assert main(["check", "scaf_grpo", f"data.train={tmp_path / 'rows.jsonl'}", "data.bad_rows=drop"]) == 2
        assert f"rows.jsonl: row 4: hints is {wrong!r}; expected a list of texts" in capsys.readouterr().err


def test_rows_without_hints_may_stand_among_others(tmp_path: Path):
    rows = [{**r, "hints": None} if i % 2 else r for i, r in enumerate(ROWS)]
    assert asked([{"prompt": ROWS[0]["prompt"], "hints": []}, *rows[1:]], tmp_path) == 0


def test_a_hint_too_long_for_the_model_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    rows = [{**r, "hints": ["very " * 600]} for r in ROWS]
    assert asked([*ROWS[:7], *rows[7:]], tmp_path) == 2
    assert "row 8: with hint 1 the prompt has" in capsys.readouterr().err
