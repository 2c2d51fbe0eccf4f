"""Code that is not ours: it does not end the process, and files of the working folder do not stand in for libraries."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mistakes import RECIPE, dump, pairs
from small_runs import write_recipe

from align.cli.main import main, run_app
from align.errors import UserError
from align.outside import load_outside
from align.rewards.base import Sample, find_reward
from align.rewards.settings import RewardSection
from align.rewards.verdicts import make_reward_functions

ONLINE: dict[str, Any] = {
    "method": {"name": "rloo"}, "model": {"model_name_or_path": "asset:stories260k"},
    "data": {"train": "prompts.jsonl"}, "reward": {"functions": ["leaving:judge"]},
    "rollout": {"num_generations": 2, "max_completion_length": 4},
    "training": {"batch_size": 2, "max_steps": 2, "output_dir": "run"}, "logging": {"num_completions": 0},
}  # fmt: skip
LENGTH = {"functions": [{"name": "length", "settings": {"target": 4}}]}
JUDGE = "import sys\ndef judge(completions, **columns):\n    {}\n    return [1.0, 2.0] * (len(completions) // 2)\n"
METHOD = """
import sys
from align.methods.dpo import DPO
class Leaving(DPO):
    name = "leaving"
    def loss(self, batch):
        sys.exit()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, from which Python imports as far as `align` sees to that."""
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    monkeypatch.chdir(tmp_path)
    for name in ("leaving", "mine"):
        sys.modules.pop(name, None)
    dump("prompts.jsonl", *({"prompt": f"Once {i}"} for i in range(4)))
    return tmp_path


# ---- sys.exit -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["0", "", "3", "'bye'"])
def test_a_reward_that_exits_fails_the_run(code: str, capsys: pytest.CaptureFixture[str]):
    Path("leaving.py").write_text(JUDGE.format(f"sys.exit({code})"))
    assert main(["train", str(write_recipe(Path("r.yaml"), ONLINE))]) == 1
    told = capsys.readouterr().err
    assert f"reward judge: AskedToEnd: it calls sys.exit({code}) (" in told
    assert "leaving.py, line 3)" in told


def test_an_environment_and_a_segmenter_that_exit(capsys: pytest.CaptureFixture[str]):
    Path("leaving.py").write_text("import sys\ndef answer(*asked):\n    sys.exit(0)\n")
    talk = {**ONLINE, "reward": LENGTH}
    talk["rollout"] = {**ONLINE["rollout"], "environment": "leaving:answer", "stop_strings": ["e", "a", " "]}
    assert main(["train", str(write_recipe(Path("r.yaml"), talk))]) == 1
    assert "rollout.environment leaving:answer" in capsys.readouterr().err
    cut = {**ONLINE, "method": {"name": "vineppo", "num_restarts": 2}, "reward": LENGTH}
    cut["rollout"] = {**ONLINE["rollout"], "steps": "leaving:answer"}
    cut["training"] = {**ONLINE["training"], "output_dir": "cut"}
    assert main(["train", str(write_recipe(Path("r.yaml"), cut))]) == 1
    assert "leaving:answer" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["reward", "method", "environment"])
def test_a_module_that_exits_when_it_is_imported_is_the_users_mistake(kind: str):
    Path("leaving.py").write_text("import sys\nsys.exit(0)\n")
    with pytest.raises(UserError, match=rf"{kind} leaving:f: AskedToEnd on importing leaving: it calls sys.exit\(0\)"):
        load_outside(kind, "leaving:f")


def test_a_reward_class_that_exits_when_it_is_made():
    Path("leaving.py").write_text("import sys\nclass R:\n    def __init__(self):\n        sys.exit(0)\n")
    with pytest.raises(UserError, match=r"reward leaving:R: it calls sys\.exit"):
        find_reward("leaving:R", {})


def test_a_worker_that_exits_is_an_error_of_its_sample():
    Path("leaving.py").write_text(JUDGE.format("sys.exit(0)"))
    section = RewardSection(functions=["leaving:judge"], timeout=60.0, on_error="mark", num_workers=1)
    judge = make_reward_functions(section)
    try:
        (judged,) = judge([Sample(prompt="p", completion="c", completion_ids=[1])])
    finally:
        judge.close()
    assert "it calls sys.exit(0)" in judged.failed["judge"]


def test_a_method_that_exits_fails_the_run(capsys: pytest.CaptureFixture[str]):
    Path("leaving.py").write_text(METHOD)
    dump("rows.jsonl", *pairs(8))
    Path("r.yaml").write_text(RECIPE.replace("name: dpo", "name: leaving:Leaving"))
    assert main(["train", "r.yaml"]) != 0
    assert "it calls sys.exit() (" in capsys.readouterr().err


def test_whatever_else_exits_is_no_success(capsys: pytest.CaptureFixture[str]):
    import typer

    app = typer.Typer()
    app.command()(lambda: sys.exit(0))
    assert run_app(app, []) == 1
    assert "not finished: AskedToEnd: it calls sys.exit(0)" in capsys.readouterr().err


# ---- the working folder ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [["-m", "align"], ["-c", "from align.__main__ import run; run()"]])
def test_a_stray_file_does_not_stand_in_for_a_library(start: list[str], folder: Path):
    for name in ("jinja2", "yaml", "typer", "difflib", "random", "transformers"):
        (folder / f"{name}.py").write_text(f"raise SystemExit('the stray {name}.py')\n")
    safe = ["-P"] if start[0] == "-c" else []  # the installed command has the folder of its script there
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"PYTHONSAFEPATH": ""}
    done = subprocess.run([sys.executable, *safe, *start, "check", "dpo"], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "no mistakes found" in done.stdout


def test_a_module_of_the_working_folder_is_found_and_after_all_others(folder: Path):
    (folder / "mine.py").write_text("def f(**columns):\n    return []\n")
    assert callable(load_outside("reward", "mine:f"))
    assert sys.path[-1] == str(folder)
    assert sys.path.count(str(folder)) == 1


def test_a_module_hidden_by_an_installed_one_is_told(folder: Path):
    (folder / "yaml.py").write_text("def judge(**columns):\n    return []\n")
    with pytest.raises(UserError, match=r"yaml\.py is hidden by .*yaml.__init__.py.*: rename it"):
        load_outside("reward", "yaml:judge")


def test_workers_do_not_import_strays_either(folder: Path):
    Path("mine.py").write_text("import os\ndef f(**columns):\n    return [float('PYTHONSAFEPATH' in os.environ)]\n")
    for name in ("socket", "tempfile", "multiprocessing"):
        (folder / f"{name}.py").write_text("import os\nos._exit(3)\n")
    judge = make_reward_functions(RewardSection(functions=["mine:f"], timeout=60.0, num_workers=1))
    try:
        (judged,) = judge([Sample(prompt="p", completion="c", completion_ids=[1])])
    finally:
        judge.close()
    assert judged.rewards == {"f": 0.0}
