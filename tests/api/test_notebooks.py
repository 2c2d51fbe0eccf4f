"""The notebooks run from top to bottom in a kernel, and an interrupted cell has saved."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

NOTEBOOKS = ("first_run", "own_reward")
WARNED = "ignore::DeprecationWarning", "ignore::RuntimeWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
pytestmark = [pytest.mark.filterwarnings(text) for text in WARNED]  # of the kernel's own packages


@pytest.fixture
def elsewhere(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    paths = [str(repository), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    return tmp_path


def shown(cell: Any) -> str:
    return "".join(str(part.get("text") or part["data"]) for part in cell.outputs)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs_to_its_end(name: str, repository: Path, elsewhere: Path) -> None:
    notebook = nbformat.read(repository / "notebooks" / f"{name}.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)  # kept without
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(elsewhere)}}).execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if name == "first_run":
        assert "6 steps; final/ holds step 6" in shown(cells[1])
        assert "True" in shown(cells[5])  # paired
        assert "<iframe srcdoc=" in shown(cells[-1])
    else:
        assert "6 steps; final/ holds step 6" in shown(cells[-2])


INTERRUPTED = """
import align
rows = [{"prompt": f"Tea {i}.", "completion": " It is warm."} for i in range(8)]
quick = {"batch_size": 2, "eval_steps": 0, "max_steps": 3}
print("ready")
"""
TRAINS = """
import os, signal
align.train("sft", data=rows, training=quick, logging={"num_completions": 0},
            on_step=lambda step, metrics: os.kill(os.getpid(), signal.SIGINT) if step == 1 else None)
"""
AFTER = 'print(repr(align.Run("runs/sft")), align.Run("runs/sft").resume())'


def test_an_interrupted_cell_has_saved_and_the_kernel_goes_on(elsewhere: Path) -> None:
    cells = [nbformat.v4.new_code_cell(text) for text in (INTERRUPTED, TRAINS, AFTER)]
    cells[1].metadata["tags"] = ["raises-exception"]
    notebook = nbformat.v4.new_notebook(cells=cells)
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(elsewhere)}})
    try:
        client.execute()
    except CellExecutionError as error:
        pytest.fail(str(error))
    (raised,) = [part for part in notebook.cells[1].outputs if part.output_type == "error"]
    assert raised.ename == "Stopped"
    assert "SIGINT after step 1" in raised.evalue
    assert raised.traceback == [f"Stopped: {raised.evalue}"]  # no page of our own lines
    assert "1 steps so far" in shown(notebook.cells[2])
    assert "3 steps; final/ holds step 3" in shown(notebook.cells[2])
