"""Programs of unknown intent are held, and HumanEval's own solutions pass."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from align_eval.records import Answer
from align_eval.scorers.code import program_of
from align_eval.scorers.judge import judge
from align_eval.scorers.sandbox import run
from align_eval.tasks.items import items_of
from align_eval.tasks.task import load

QUICK = 1.0  # seconds


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("assert 1 == 2", "AssertionError in line 1"),
        ("import sys\nsys.exit(0)", "SystemExit"),  # leaving early is not passing
        ("import os\nos._exit(0)", "ended without a word"),
        ("while True: pass", "timed out after 1 seconds"),
        ("import time\ntime.sleep(100)", "timed out after 1 seconds"),
        ("x = bytearray(3 * 2**30)", "more memory than it may have"),
        ("open('a', 'wb').write(b'x' * 10**7)", "File too large"),
        ("def f(): f()\nf()", "RecursionError"),
        ("def (", "SyntaxError"),
        ("input()", "ValueError"),
        ("import ctypes\nctypes.string_at(0)", "SIGSEGV"),
        ("import json, os\ntold = json.dumps({'passed': True, 'word': '', 'why': ''}) + '\\n'\n"
         "for fd in range(3, 30):\n try: os.write(fd, told.encode())\n except OSError: pass\nos._exit(0)",
         "ended without a word"),
        ("import os\nwhile True:\n try: os.fork()\n except OSError: pass", "timed out"),
        ("import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True:\n try:\n  while True: pass\n"
         " except BaseException: pass", "timed out"),
    ],
)  # fmt: skip
def test_what_does_not_pass_says_why(program: str, why: str):
    began = time.monotonic()
    ran = run(program, QUICK, 512)
    assert not ran.passed
    assert why in ran.why
    assert time.monotonic() - began < 60


def test_nothing_that_a_program_starts_outlives_it(tmp_path: Path):
    """A child in a session of its own would write a file half a second later."""
    mark = tmp_path / "alive"
    tmp_path.chmod(0o777)
    program = (
        "import os, time\nif os.fork() == 0:\n os.setsid()\n if os.fork() == 0:\n  time.sleep(0.5)\n"
        f"  open({str(mark)!r}, 'w').write('x')\n os._exit(0)"
    )
    assert run(program, QUICK).passed
    time.sleep(1.0)
    assert not mark.exists()


def test_the_one_who_asked_survives_what_kills_its_parents():
    ran = run("import os, signal\nos.kill(os.getppid(), signal.SIGKILL)", QUICK)
    assert isinstance(ran.passed, bool)


def test_where_the_system_allows_there_is_no_network_and_no_writing_elsewhere(tmp_path: Path):
    apart = run("pass", QUICK).apart
    if "network" in apart:
        ran = run("import socket\nsocket.create_connection(('127.0.0.1', 9), 1)", QUICK)
        assert "unreachable" in ran.why
    if "files" in apart:
        ran = run(f"open({str(tmp_path / 'x')!r}, 'w')", QUICK)
        assert "OSError" in ran.why or "PermissionError" in ran.why
    if os.getuid() == 0 and "processes" in apart:
        assert "user" in apart


def test_secrets_of_the_environment_are_not_there(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    assert run("import os\nassert 'OPENAI_API_KEY' not in os.environ", QUICK).passed


PROMPT = "import math\n\ndef area(r):\n    '''Of a disc.'''\n"


@pytest.mark.parametrize(
    "text",
    [
        "    return math.pi * r * r\n",
        "```python\ndef area(r):\n    return math.pi * r * r\n```\nThat is it.",
        "Here:\n```\nimport math\n\ndef area(r):\n    return math.pi * r ** 2\n```",
    ],
)
def test_a_function_is_completed_or_written_anew(text: str):
    from align_eval.scorers.code import WHOLE
    from align_eval.scorers.extract import extract

    code = extract(WHOLE, text)
    assert code is not None
    found: dict[str, object] = {}
    exec(program_of(PROMPT, code, "area"), found)
    assert callable(found["area"])


def test_solutions_pass_and_stubs_do_not():
    """A part of the 164, whose tests are run; `--model gold` runs them all."""
    task = load("humaneval")
    for item in items_of(task, limit=12):
        for text, right in ((item.columns["gold"], 1.0), ("    pass\n", 0.0)):
            (score,) = judge(task, item, Answer(item=item.id, model="m", text=text))
            assert score.score == right, (item.id, score)
    (empty,) = judge(task, item, Answer(item=item.id, model="m", text=""))
    assert (empty.score, empty.columns) == (0.0, {"unparsed": "nothing was written"})
