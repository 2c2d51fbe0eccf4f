"""A run as Python shows it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas
import pytest
import torch

import align

FEW: dict[str, Any] = {
    "data": {"num_rows": 60},
    "training": {"max_steps": 2, "eval_steps": 2, "batch_size": 8},
    "logging": {"num_completions": 2},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[align.Run, align.Run]:
    with pytest.MonkeyPatch.context() as moved:
        moved.chdir(tmp_path_factory.mktemp("here"))
        made = align.train("dpo", **FEW), align.train("dpo", method={"beta": 0.5}, **FEW)
        return align.Run(made[0].folder.resolve()), align.Run(made[1].folder.resolve())


def test_numbers_samples_and_page(runs: tuple[align.Run, align.Run], monkeypatch: pytest.MonkeyPatch) -> None:
    run = runs[0]
    assert list(run.metrics["step"]) == [1, 2]
    assert run.metrics["eval/loss"].isna().tolist() == [True, False]
    assert set(run.completions["step"]) == {0, 2}
    assert run.test["accuracy"].n == 59  # one of sixty is dropped
    assert run.test["before/loss"].value == pytest.approx(0.6931, abs=1e-4)
    assert repr(run).endswith("# 2 steps; final/ holds step 2")
    page = run.report()
    shown = page._repr_html_()
    assert page.path == run.folder / "report.html"
    assert shown.count("<") == 2  # one frame: what is inside is quoted
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "pandas", None)
        assert [row["step"] for row in run.metrics] == [1, 2]


def test_two_runs_are_compared_row_by_row(runs: tuple[align.Run, align.Run]) -> None:
    found = runs[1].compare(runs[0])
    assert isinstance(found, pandas.DataFrame)
    margin = found.set_index("metric").loc["margin"]
    ours, theirs = (run.test["margin"] for run in (runs[1], runs[0]))
    gaps = torch.tensor(ours.rows) - torch.tensor(theirs.rows)
    assert margin["paired"]
    assert margin["difference"] == pytest.approx(ours.value - theirs.value)
    assert margin["stderr"] == pytest.approx((gaps.std() / len(gaps) ** 0.5).item(), rel=1e-4)
    assert runs[1].compare(str(runs[0].folder)).equals(found)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(align.UserError, match=r"not a run folder: has no recipe.yaml"):
        align.Run(tmp_path)


def test_importing_it_is_cheap_and_misspelt_names_are_refused() -> None:
    code = "import sys, align; print('torch' in sys.modules, 'yaml' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = align.trian  # type: ignore[attr-defined]
    assert all(getattr(align, name) for name in align.__all__)


def test_the_lines_of_the_readme_run(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (repository / "README.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"```python\n(import align\n.*?)```", text, re.DOTALL)
    assert len([line for line in lines.splitlines() if line]) <= 10
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    exec(compile(lines, "README.md", "exec"), found)
    assert isinstance(found["run"], align.Run)
