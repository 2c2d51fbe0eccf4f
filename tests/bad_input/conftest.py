"""A working folder with a recipe and rows that are right, and a command that trains and returns its message."""

from pathlib import Path

import pytest
from mistakes import RECIPE, Told, dump, pairs

from align.cli.main import main


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a recipe and rows that are right."""
    monkeypatch.chdir(tmp_path)
    dump("rows.jsonl", *pairs(8))
    Path("mine.yaml").write_text(RECIPE)
    return tmp_path


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Told:
    """Trains, expects an exit code, and returns the one message."""

    def told(*words: str, code: int = 2, recipe: str = "mine.yaml") -> str:
        capsys.readouterr()
        assert main(["train", recipe, *words]) == code
        message = capsys.readouterr().err
        assert "Traceback" not in message
        assert message.count("align:") == (1 if code else 0)
        return message

    return told
