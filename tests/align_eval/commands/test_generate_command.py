"""`align-eval generate` from the words of a command to its exit code."""

from __future__ import annotations

from pathlib import Path

import pytest

from align_eval.cli import main


def test_a_file_without_prompts_is_a_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts = tmp_path / "mine.jsonl"
    prompts.touch()
    out = tmp_path / "e"
    assert main(["generate", str(prompts), "--model", "asset:stories260k", "--out", str(out)]) == 2
    assert "mine.jsonl: has no rows" in " ".join(capsys.readouterr().err.split())
