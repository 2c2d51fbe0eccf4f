"""`align-eval compare` from the words of a command to its exit code."""

from __future__ import annotations

from pathlib import Path

import pytest
from judged import both_orders, folder_of

from align_eval.cli import main


def test_an_empty_gate_is_a_mistake_and_does_not_open(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = folder_of(tmp_path / "e", both_orders("p", "a", "b", [1.0, 1.0]))
    assert main(["compare", "a", "b", "-e", str(folder), "--gate", ""]) == 2  # as of a variable that is not set
    assert "expected NAME > NUMBER at LEVEL%" in capsys.readouterr().err
