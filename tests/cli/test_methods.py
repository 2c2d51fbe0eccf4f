"""`align methods`: in every form what the classes say, and at once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from align.cli import methods
from align.cli.entries import as_table
from align.cli.main import main
from align.cli.methods import BEGIN, END, READ, as_markdown
from align.methods.base import method_names


def test_methods_lists_every_method_in_every_form(capsys: pytest.CaptureFixture[str]):
    assert main(["methods", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [e["name"] for e in listed] == method_names()
    dpo = next(e for e in listed if e["name"] == "dpo")
    assert (dpo["rows"], dpo["models"], dpo["knobs"], dpo["recipe"]) == (
        "pairs",
        ["reference"],
        {"beta": 0.1},
        "recipes/dpo.yaml",
    )
    assert main(["methods"]) == 0
    assert set(method_names()) <= {line.split(" ")[0] for line in capsys.readouterr().out.splitlines()}


def test_a_method_has_a_page(capsys: pytest.CaptureFixture[str]):
    assert main(["methods", "reward_model"]) == 0
    page = capsys.readouterr().out
    assert "scalar head" in page
    assert "method.center_coef: a number, 0 or more, default 0.0" in page
    assert "# A scalar reward model: which of two answers is better." in page  # the recipe's own comment
    assert main(["methods", "dpoo"]) == 2
    assert "Did you mean dpo?" in capsys.readouterr().err


def test_the_readme_shows_the_table_that_methods_prints(repository: Path):
    readme = (repository / "README.md").read_text(encoding="utf-8")
    between = readme.split("<!-- methods: made by `align methods --markdown` -->\n")[1].split(
        "<!-- end of methods -->"
    )[0]
    assert between == as_markdown(), "align methods --markdown --write"
    assert READ.read_text() == as_table(), "align methods --markdown --write"


def test_a_method_that_was_changed_is_read_again(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(methods, "sum_of", lambda name: "another" if name == "dpo" else "")
    assert main(["methods", "dpo"]) == 0
    assert "method.beta: a number, more than 0, default 0.1" in capsys.readouterr().out


LIGHT = """
import os, sys
from align.cli.main import main
for words in (["--help"], ["methods"], ["methods", "dpo"], ["methods", "--json"], ["init", "dpo"], ["train", "--help"]):
    assert main(words) == 0, words
os.environ.update(_ALIGN_COMPLETE="complete_bash", COMP_WORDS="align meth", COMP_CWORD="1")
sys.argv = ["align"]
assert main([]) == 0
heavy = {"torch", "transformers", "datasets", "numpy"} & sys.modules.keys()
assert not heavy, heavy
"""


def test_whoever_looks_around_does_not_wait_for_torch():
    """Two to four seconds of each command."""
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("methods")


def test_the_table_is_written_between_its_marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                capsys: pytest.CaptureFixture[str]):  # fmt: skip
    monkeypatch.chdir(tmp_path)
    words = ["methods", "--markdown", "--write"]
    assert main(words) == 2
    assert "README.md: cannot be read" in capsys.readouterr().err
    (readme := tmp_path / "README.md").write_text("# Mine\n")
    assert main(words) == 2
    assert readme.read_text() == "# Mine\n"
    readme.write_text(f"# Mine\n{BEGIN}\nold\n{END}\nmore\n")
    assert main(words) == 0
    assert readme.read_text() == f"# Mine\n{BEGIN}\n{as_markdown()}{END}\nmore\n"
    assert main(words) == 0
    assert "the table is that of the methods" in capsys.readouterr().out
    assert main(["methods", "--write"]) == 2
