"""What `align-eval judge` says where it cannot judge, and its exit codes."""

from __future__ import annotations

from pathlib import Path

import pytest
from judging_server import serving

from align.judges import endpoint as endpoints
from align_eval.cli import main
from align_eval.records import Answer, Item
from align_eval.store import append_answers, append_items


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    append_items(tmp_path, [Item(id="q", prompt="Question?")])
    append_answers(tmp_path, [Answer(item="q", model=m, text=m) for m in ("a", "org/b")])
    return tmp_path


def test_an_endpoint_that_never_answers_is_a_failure(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(endpoints, "BACK_OFF", 0.01)
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
