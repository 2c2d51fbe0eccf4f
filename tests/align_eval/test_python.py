"""What the README says of Python runs, and a bare import brings in nothing heavy."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import align_eval


def test_the_lines_of_the_readme_run(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    text = (repository / "README.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"```python\n(import align_eval\n.*?)```", text, re.DOTALL)
    assert len([line for line in lines.splitlines() if line]) <= 10
    monkeypatch.chdir(tmp_path)
    found: dict[str, align_eval.Comparison] = {}
    exec(compile(lines, "README.md", "exec"), found)
    told = found["found"]
    assert isinstance(told, align_eval.Comparison)
    assert told.delta.low is not None
    assert told.pairs[0].win_rate.n == 200


def test_importing_it_is_cheap_and_misspelt_names_are_refused():
    code = "import sys, align_eval; print('torch' in sys.modules, 'scipy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
    with pytest.raises(AttributeError, match="no attribute 'compair'"):
        _ = align_eval.compair  # type: ignore[attr-defined]
    for name in align_eval.__all__:
        assert getattr(align_eval, name).__name__ == name
