"""Asked to stop outside of the loop: exit 75 with a word, nothing is lost, and --resume ends as if nothing had been."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_runs import BRIEF, FRESH, metrics, run, same, weights, write_recipe, write_rows

import align.run.train
from align.cli.main import main
from align.errors import Lost
from align.world.distributed import lost

ROWS = [{"prompt": f"Say {i}", "completion": " yes"} for i in range(8)]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    place = tmp_path_factory.mktemp("rows")
    return {
        "method": {"name": "sft"}, "model": FRESH, "logging": BRIEF,
        "data": {"train": write_rows(place / "rows.jsonl", ROWS), "test": 0.3},
        "training": {"batch_size": 2, "max_steps": 2, "layout": "padded"},
    }  # fmt: skip


@pytest.fixture(scope="module")
def whole(recipe: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tmp_path_factory.mktemp("whole") / "run", recipe)


PHASES = {
    "the first import": ("align.recipe.load.load_recipe", signal.SIGTERM),
    "joining": ("align.run.train.join", signal.SIGTERM),
    "preparing data": ("align.run.assemble.prepare", signal.SIGINT),
    "loading the model": ("align.run.assemble.load_policy", signal.SIGTERM),
    "what the run was before": ("align.run.train._test", signal.SIGTERM),
    "the weights of the end": ("align.run.train.save_final", signal.SIGTERM),
    "the report": ("align.run.train.write_report", signal.SIGINT),
}


@pytest.mark.parametrize("phase", PHASES)
def test_it_says_so_and_goes_on(
    phase: str, recipe: dict[str, Any], whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):  # fmt: skip
    place, number = PHASES[phase]
    file = str(write_recipe(tmp_path / "r.yaml", recipe))
    words = ["train", file, f"training.output_dir={tmp_path / 'run'}"]
    with monkeypatch.context() as patched:
        patched.setattr(place, struck(place, number))
        assert main(words) == 75
    assert f"align: stopped by {number.name}; go on with --resume" in capsys.readouterr().err
    assert main([*words, "--resume"]) == 0
    assert same(weights(whole), weights(tmp_path / "run"))
    assert metrics(whole) == metrics(tmp_path / "run")
    assert (tmp_path / "run/report.html").exists()


def struck(place: str, number: signal.Signals) -> Callable[..., Any]:
    """A function that a signal comes into, and that a library around it would not let pass as an error."""

    def strike(*given: Any, **named: Any) -> Any:
        try:
            signal.raise_signal(number)
        except Exception:
            return None
        raise AssertionError("went on")

    return strike


def test_asked_in_the_last_step_it_stops_after_it(recipe: dict[str, Any], whole: Path, tmp_path: Path):
    file = str(write_recipe(tmp_path / "r.yaml", recipe))
    words = ["train", file, f"training.output_dir={tmp_path / 'run'}"]
    before = align.run.train.take_steps

    def last(loop: Any, progress: Any) -> Any:
        tell = loop.display.step
        loop.display.step = lambda step, row: (tell(step, row), step == 2 and signal.raise_signal(signal.SIGTERM))
        return before(loop, progress)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(align.run.train, "take_steps", last)
        assert main(words) == 75
    assert not (tmp_path / "run/final").exists()
    assert main([*words, "--resume"]) == 0
    assert same(weights(whole), weights(tmp_path / "run"))


def test_what_breaks_since_another_process_has_stopped_is_no_failure(
    recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    file = str(write_recipe(tmp_path / "r.yaml", recipe))
    words = ["train", file, f"training.output_dir={tmp_path / 'run'}"]
    broken = RuntimeError("[../gloo/transport/tcp/pair.cc:525] Connection closed by peer [127.0.0.1]:1234")
    assert lost(broken)
    assert not lost(RuntimeError("a size does not match"))

    def fail(*given: Any, **named: Any) -> Any:
        raise broken

    monkeypatch.setattr("align.run.assemble.load_policy", fail)
    assert main(words) == Lost.exit_code
    assert "align: another process of this run has ended; go on with --resume" in capsys.readouterr().err


def test_an_interrupt_that_no_keyboard_sent_is_a_failure(
    recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "breaking.py").write_text("def f(completions, **columns):\n    raise KeyboardInterrupt\n")
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    monkeypatch.chdir(tmp_path)
    online = {
        "method": {"name": "rloo"}, "model": FRESH, "logging": BRIEF, "reward": {"functions": ["breaking:f"]},
        "data": {"train": write_rows(tmp_path / "p.jsonl", [{"prompt": "Once"}, {"prompt": "Then"}])},
        "rollout": {"num_generations": 2, "max_completion_length": 4},
        "training": {"batch_size": 2, "max_steps": 1, "output_dir": "run"},
    }  # fmt: skip
    assert main(["train", str(write_recipe(tmp_path / "r.yaml", online))]) == 1
    assert "was raised by code and not by the keyboard" in capsys.readouterr().err
