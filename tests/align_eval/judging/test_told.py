"""What `align-eval judge` says where it cannot judge, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from judging_server import serving

from align_eval.cli import main
from align_eval.records import Answer, Item
from align_eval.store import append_answers, append_items


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    append_items(tmp_path, [Item(id="q", prompt="Question?")])
    append_answers(tmp_path, [Answer(item="q", model=m, text=m) for m in ("a", "org/b")])
    return tmp_path


def test_an_endpoint_that_never_answers_is_a_failure(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving() as gone:
        pass
    assert main(["judge", str(folder), "--judge", "http:judge-1", "--base-url", gone.url]) == 1
    assert "http:judge-1: nothing came back" in capsys.readouterr().err


def test_a_misspelt_rule_is_told_all_rules(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["judge", str(folder), "--judge", "rule:longr"]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "no such rule; there are longer, shorter, " in told
    assert told.endswith("Did you mean longer?")


def test_a_key_that_is_named_must_be_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving() as server:
        words = ["--judge", "http:judge-1", "--base-url", server.url, "key_env=NO_SUCH_KEY"]
        assert main(["judge", str(folder), *words]) == 2
    assert "NO_SUCH_KEY is not set" in " ".join(capsys.readouterr().err.split())


def test_recorded_verdicts_that_are_not_asked_for_are_counted(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"item": i, "models": ["a", m], "winner": "a"} for i, m in (("q", "org/b"), ("q/99", "org/b"), ("q", "c"))]
    (tmp_path / "people.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["judge", str(folder), "--judge", f"recorded:{tmp_path}/people.jsonl"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "recorded:people: 1 questions (0 judged before), 1 verdicts" in told
    assert "2 of 3 verdicts in" in told
    assert "the first is on q/99 of a and org/b, repeat 0" in told


@pytest.mark.parametrize("name", ["lm_eval", "inspect_ai"])
def test_an_export_of_nothing_is_no_success(
    name: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", name, str(folder), "--out", str(tmp_path / "out")]) == 2
    assert f"nothing of it has a place in {name}: " in " ".join(capsys.readouterr().err.split())
