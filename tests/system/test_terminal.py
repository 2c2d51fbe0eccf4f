"""Nothing that models, data, recipes or file names hold steers the terminal that shows it."""

from __future__ import annotations

import ast
import io
import logging
import os
import shutil
import sys
import warnings
from pathlib import Path

import pytest
import torch
from forked import Child
from rich.text import Text
from small_runs import BRIEF, FRESH, lines, write_recipe, write_rows

from align.__main__ import run
from align.cli.chat import Speaker
from align.cli.main import main
from align.monitors.display import Display
from align.report.text import escape
from align.runfolder.logs import Completion
from align.system.terminal import Guarded, guard_complaints, say, visible

ROOT = Path(__file__).parents[2]
BRIEFLY = (
    "data.num_rows=12", "data.test=0", "data.validation=0", "training.eval_steps=0", "training.num_train_epochs=null",
    "training.max_steps=3", "training.batch_size=4", "logging.num_completions=0", "logging.logging_steps=1",
)  # fmt: skip
HOSTILE = "\x1b[2J\x1b]0;title\x07 \x9b31m \u202egnp.exe \r\b over"
ORDERS = "\x1b\x9b\x07\u202e\r\b"
SHOWN = "⟨U+001B⟩[2J⟨U+001B⟩]0;title⟨U+0007⟩ ⟨U+009B⟩31m ⟨U+202E⟩gnp.exe ⟨U+000D⟩⟨U+0008⟩ over"


def test_what_steers_is_shown_and_what_is_written_stays():
    assert visible(HOSTILE) == SHOWN == escape(HOSTILE)
    kept = "Gr\u00fc\u00dfe, \u4f60\u597d, \u05e9\u05dc\u05d5\u05dd\n\tindented"
    kept += "\u0645\u06cc\u200c\u062e\u0648 \U0001f469\u200d\U0001f4bb"
    assert visible(kept) == kept


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_console_keeps_its_own_colours_and_shows_the_orders_of_others(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    screen = Screen()
    console = Guarded(file=screen, width=200)
    console.print("a [red]word[/nonsense]", highlight=False)
    console.print(Text(HOSTILE, style="green"))
    console.print(HOSTILE, highlight=False)
    told = screen.getvalue()
    assert "a [red]word[/nonsense]" in told
    assert told.count("⟨U+202E⟩gnp.exe") == 2
    assert "\x1b[32m" in told
    assert not set(told.replace("\x1b[", "")) & set(ORDERS)
    assert "\x1b[2J" not in told


def test_completions_and_notes_while_training(capsys: pytest.CaptureFixture[str]):
    with Display(2) as display:
        display.say(HOSTILE)
        display.samples([
            Completion(step=1, policy_version=1, prompt=HOSTILE, text=HOSTILE, prompt_length=1, completion_length=1,
                       stop_reason="eos", rewards={HOSTILE: 1.0}),
        ])  # fmt: skip
    told = capsys.readouterr().out
    assert SHOWN in told
    assert not set(told) & set(ORDERS)


def test_an_answer_while_it_is_written(capsys: pytest.CaptureFixture[str]):
    class Words:
        def decode(self, ids: list[int], **how: object) -> str:
            return "".join(chr(i) for i in ids)

    streamer = Speaker(Words())  # type: ignore[arg-type]
    for char in f"{HOSTILE} end":
        streamer.put(torch.tensor([ord(char)]))
    streamer.end()
    assert capsys.readouterr().out == f"{SHOWN} end\n"


def test_data_and_file_names_that_doctor_check_and_errors_quote(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    rows = [{"prompt": f"Say {HOSTILE} {i}", "completion": f" yes {HOSTILE}"} for i in range(4)]
    data = write_rows(tmp_path / "\x1b[2J\u202erows.jsonl", rows)
    recipe = {
        "method": {"name": "sft"}, "model": FRESH, "data": {"train": data}, "logging": BRIEF,
        "training": {"batch_size": 2, "max_steps": 1, "output_dir": str(tmp_path / "run")},
    }  # fmt: skip
    path = str(write_recipe(tmp_path / "sft.yaml", recipe))
    main(["doctor", path])
    main(["check", path])
    shutil.move(data, tmp_path / "gone")
    assert main(["check", path]) == 2
    told = "".join(capsys.readouterr())
    assert "⟨U+202E⟩gnp.exe" in told
    assert "⟨U+202E⟩rows.jsonl: row 1" in told
    assert not set(told) & set(ORDERS)


def test_what_python_and_libraries_complain_of(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    factory = logging.getLogRecordFactory()
    try:
        guard_complaints()
        handler = logging.StreamHandler(sys.stderr)
        handler.handle(logging.getLogRecordFactory()("x", 30, "f", 1, "says %s", (HOSTILE,), None))
    finally:
        logging.setLogRecordFactory(factory)
    sys.excepthook(ValueError, ValueError(HOSTILE), None)
    sys.stderr.write(warnings.formatwarning(HOSTILE, UserWarning, "file.py", 1))
    assert capsys.readouterr().err.count(SHOWN) == 3


def test_there_is_one_way_to_the_terminal():
    """Whoever prints by another way prints raw what a model has written."""
    wrong: list[str] = []
    for path in [*ROOT.glob("align/**/*.py"), *ROOT.glob("eval/**/*.py")]:
        if path == ROOT / "align/system/terminal.py":
            continue
        calls = [ast.unparse(n.func) for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
        wrong += [f"{path}: {c}" for c in calls if c in ("print", "Console", "sys.stdout.write", "sys.stderr.write")]
    assert not wrong, wrong


def test_said_without_line_end(capsys: pytest.CaptureFixture[str]):
    say("a\x1b", end="")
    say("b", file=sys.stderr)
    assert capsys.readouterr() == ("a⟨U+001B⟩", "b\n")


@pytest.mark.processes
def test_a_run_outlives_whoever_reads_what_it_says(tmp_path: Path):
    """`align train ... | head -1`, and a terminal that has gone."""
    reading, writing = os.pipe()

    def act() -> None:
        os.close(reading)
        os.dup2(writing, 1)
        os.dup2(writing, 2)
        sys.argv = ["align", "train", "sft", *BRIEFLY, f"training.output_dir={tmp_path / 'run'}"]
        run()

    child = Child(act, tmp_path, tmp_path / "log.txt", dict(os.environ))
    os.close(writing)
    os.read(reading, 1)
    os.close(reading)
    assert child.wait(60) == 0
    assert (tmp_path / "run/final").exists()
    assert len(lines(tmp_path / "run/metrics.jsonl")) == 3
