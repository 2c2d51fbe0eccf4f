"""What the user sees: a live line on a terminal, plain lines elsewhere, nothing from other ranks."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from align.monitors import display as progress
from align.monitors.display import Display, Rate
from align.runfolder.logs import Completion

SCRIPT = """
import time
from align.monitors.display import Display
with Display(4, logging_steps=2) as display:
    for step in range(1, 5):
        time.sleep(0.3)
        display.step(step, {"loss": 0.7 - step / 10, "margin": 0.25, "memory_mb": 812.4, "num_tokens": 600 * step})
        if step == 2:
            display.say("[bold]checkpoint[/] of step 2 is damaged")
            with display.during("evaluating", 10) as advance:
                advance(10)
"""
PLACE = Path(progress.__file__).parents[2]


def test_plain_lines_in_a_pipe():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, cwd=PLACE)
    lines = done.stdout.splitlines()
    assert [x.split("  ")[0] for x in lines] == ["step 2/4", "[bold]checkpoint[/] of step 2 is damaged", "step 4/4"]
    assert "\x1b" not in done.stdout
    assert lines[0].endswith("loss 0.5000  margin 0.250  memory 812 MiB")
    rate = re.search(r"([\d.]+)k tokens/s  0:0(\d) left", lines[0])
    assert rate is not None
    assert 1.0 < float(rate[1]) <= 2.0  # 600 tokens in 0.3 s and a little
    assert lines[2].split("  ")[2] == "0:00 left"


def test_an_experience_is_told_in_all_its_steps(capsys: pytest.CaptureFixture[str]):
    with Display(4) as display:
        for step, told in enumerate(({"reward": 0.25, "kl": 1.5}, {}, {"reward": 0.5, "kl": 2.5}, {}), 1):
            display.step(step, {"loss": 0.5, "num_tokens": step} | told)
    lines = capsys.readouterr().out.splitlines()
    assert [re.findall("reward (.*)", line) for line in lines] == [["0.250  KL 1.50"]] * 2 + [["0.500  KL 2.50"]] * 2


def terminal(kind: str) -> str:
    """What SCRIPT writes to a terminal of that kind."""
    ours, theirs = pty.openpty()
    settings = {**os.environ, "TERM": kind, "COLUMNS": "120", "LINES": "30"}
    command = [sys.executable, "-c", SCRIPT]
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, cwd=PLACE, env=settings) as child:
        os.close(theirs)
        seen = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # Linux: the other end is closed
                break
            if not part:
                break
            seen += part
    os.close(ours)
    assert child.returncode == 0
    return seen.decode()


def test_live_line_on_a_terminal():
    seen = terminal("xterm-256color")
    assert "\x1b[?25l" in seen  # the cursor is hidden while the line lives
    assert "\x1b[?25h" in seen
    bare = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", seen)
    assert "[bold]checkpoint[/] of step 2 is damaged" in bare  # never read as markup
    last = bare.rstrip().splitlines()[-1]
    assert last.startswith("training")
    for fact in ("4/4", "tokens/s", "0:00 left", "loss 0.3000", "margin 0.250", "memory 812 MiB"):
        assert fact in last


def test_dumb_terminal_gets_plain_lines():
    assert [x.split("  ")[0] for x in terminal("dumb").splitlines()][::2] == ["step 2/4", "step 4/4"]


def test_other_ranks_are_silent(capsys: pytest.CaptureFixture[str]):
    with Display(1, main=False) as display:
        display.step(1, {"loss": 1.0, "num_tokens": 5})
        display.say("x")
    assert capsys.readouterr().out == ""


def test_rate_is_of_the_last_steps():
    rate = Rate(100.0, 5000)
    assert rate.time_left(3) is None
    rate.add(102.0, 5100)
    rate.add(104.0, 5300)
    assert rate.tokens_per_second == pytest.approx(75.0)  # 300 tokens in 4 s, none of the 5000 before
    assert rate.time_left(3) == pytest.approx(6.0)
    rate.pause(50.0)  # an evaluation: 50 s that are nobody's
    rate.add(156.0, 5400)
    assert rate.time_left(3) == pytest.approx(6.0)
    for i in range(progress.WINDOW):
        rate.add(157.0 + i, 5400 + 10 * (i + 1))
    assert rate.tokens_per_second == pytest.approx(10.0, rel=1e-3)


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "?"), (0.4, "0:00"), (61.0, "1:01"), (3600 * 25 + 59.6, "25:01:00")]
)
def test_clock(seconds: float | None, text: str):
    assert progress._clock(seconds) == text


def test_samples_are_lines_in_a_log_and_show_no_control_characters(capsys: pytest.CaptureFixture[str]):
    sample = Completion(
        step=1, policy_version=1, prompt="Once\nupon a time", text="there was\x1b[31m a cat.\n", prompt_length=4,
        completion_length=5, stop_reason="eos", rewards={"happy": 0.25, "short": None},
    )  # fmt: skip
    Display(4).samples([sample] * 9)
    lines = capsys.readouterr().out.splitlines()
    wanted = "  held-out: happy 0.25  short -  ended by eos  ...'Once upon a time' 'there was [31m a cat.'"
    assert lines == [wanted] * 2
    Display(4, main=False).samples([sample])
    assert capsys.readouterr().out == ""


def test_samples_are_a_table_with_a_column_for_each_reward():
    sample = Completion(
        step=1, policy_version=1, prompt="[bold]Once", text="a cat", prompt_length=1, completion_length=1,
        stop_reason="length", rewards={"happy": 0.25, "short": None},
    )  # fmt: skip
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(progress._table([sample]))
    text = console.export_text()
    assert re.search(r"prompt +┃ completion +┃ happy +┃ short +┃ end", text)
    assert re.search(r"\.\.\.\[bold\]Once +│ a cat +│ 0.25 +│ - +│ length", text)
