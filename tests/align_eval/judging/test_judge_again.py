"""`align-eval judge` again: after a budget, a kill or a failure, beside another process, or of other answers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from judging_command import RIGHT, command, evaluation, scores, usual
from judging_server import Fault, JudgingServer, serving

from align.judges.named import JudgeSpec
from align_eval.cli import main
from align_eval.judging.run import judge
from align_eval.records import Answer
from align_eval.store import append_answers, append_verdicts, read_verdicts
from align_eval.store.judges import read_judges


def test_a_budget_ends_it_and_the_same_command_goes_on(
    tmp_path: Path, server: JudgingServer, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = usual(tmp_path / "e")
    assert command(folder, server, "max_calls=10") == 75
    assert "14 questions of http:judge-1 were not asked" in capsys.readouterr().err
    assert len(scores(folder)) == 10
    assert command(folder, server, "max_calls=14") == 0
    assert server.served == 24
    assert scores(folder) == RIGHT


def test_a_kill_and_what_failed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = usual(tmp_path / "e")
    with serving(delay=0.05) as server:
        words = ["judge", str(folder), "--judge", "http:judge-1", "--base-url", server.url, "concurrency=2"]
        process = subprocess.Popen([sys.executable, "-m", "align_eval", *words])
        while server.served < 8:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        paid = server.served
        server.delay = 0.0
        server.fault = lambda number: (500, {}, b"down") if number % 3 == 0 else None
        assert command(folder, server, "retries=0", "concurrency=2") == 4
        assert any(score is None for score in scores(folder).values())
        told = capsys.readouterr()
        lacking = sum(score is None for score in scores(folder).values())
        assert f"{lacking} without a verdict: http://127.0.0.1" in told.out
        assert f"without an answer: {lacking} questions of http:judge-1" in told.err
        server.fault = lambda number: None
        assert command(folder, server) == 0
        assert scores(folder) == RIGHT
        assert 24 <= server.served <= 24 + 2  # what was under way when it was killed
        assert paid < 24
    assert max(v.revision for v in read_verdicts(folder)) == 1


def test_two_commands_at_once_pay_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = usual(tmp_path / "e")
    with serving(delay=0.05) as server:
        words = ["judge", str(folder), "--judge", "http:judge-1", "--base-url", server.url, "concurrency=2"]
        both = [subprocess.Popen([sys.executable, "-m", "align_eval", *words]) for _ in range(2)]
        assert [process.wait() for process in both] == [0, 0]
        assert server.served == 24
    assert scores(folder) == RIGHT


def test_two_judges_of_one_name_are_not_mixed(
    tmp_path: Path, server: JudgingServer, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = usual(tmp_path / "e")
    assert command(folder, server) == 0
    assert command(folder, server, "temperature=0.7") == 2
    error = capsys.readouterr().err
    assert "http:judge-1 is another judge here: decoding.temperature: was 0.0, now 0.7. Nothing is mixed" in error
    assert "name=..." in error
    assert command(folder, server, "temperature=0.7", "name=warm") == 0
    assert {v.judge for v in read_verdicts(folder)} == {"http:judge-1", "warm"}
    assert server.served == 48


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (lambda number: (200, {}, b"<html>A page for people</html>"), 1),
        (lambda number: (404, {}, b"no such page"), 2),
        (lambda number: (500, {}, b"down"), 1),
    ],
)
def test_an_address_under_which_nothing_came_binds_nobody(
    fault: Fault, code: int, tmp_path: Path, server: JudgingServer
) -> None:
    folder = usual(tmp_path / "e")
    with serving(fault=fault) as wrong:
        assert command(folder, wrong, "retries=0", "items=2") == code
    assert command(folder, wrong, "retries=0", "items=2") == 1  # there is no server now
    assert command(folder, server) == 0
    assert read_judges(folder)["http:judge-1"]["identity"]["endpoint"] == server.url
    assert scores(folder) == RIGHT
    with serving() as other:
        assert command(folder, other) == 2  # verdicts were kept under the right one
        assert not other.bodies


def test_another_model_behind_the_name_is_told_and_refused(
    tmp_path: Path, server: JudgingServer, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = usual(tmp_path / "e")
    server.fingerprint = "fp_1"
    assert command(folder, server, "items=6") == 0
    server.fingerprint = "fp_2"
    assert command(folder, server, "items=6") == 0  # nothing is asked
    assert command(folder, server, "concurrency=1") == 1
    assert "were made by judge-1 fp_1, and now by judge-1 fp_2: they are not to be mixed" in capsys.readouterr().err
    assert len(scores(folder)) == 12
    assert command(folder, server, "allow_revision=true") == 0
    assert "http:judge-1 was served by judge-1 fp_1 and judge-1 fp_2" in capsys.readouterr().out
    assert scores(folder) == RIGHT


def test_answers_that_were_replaced_are_judged_anew(tmp_path: Path) -> None:
    folder = evaluation(tmp_path / "e", a=["long one"], b=["short"])
    spec = JudgeSpec(judge="rule:longer")
    assert [v.score for v in judge(folder, spec)[0].verdicts] == [1.0, 1.0]
    for path in folder.glob("answers/*a-*.jsonl"):
        path.unlink()
    append_answers(folder, [Answer(item="q0", model="org/a", text="s")])
    (found,) = judge(folder, spec)
    assert [v.score for v in found.verdicts] == [0.0, 0.0]
    assert [v.score for v in read_verdicts(folder)] == [0.0, 0.0]


def test_replies_are_read_anew(tmp_path: Path, server: JudgingServer, capsys: pytest.CaptureFixture[str]) -> None:
    folder = usual(tmp_path / "e")
    assert command(folder, server) == 0
    right = scores(folder)
    before = read_verdicts(folder)
    spoilt = [v for v in before if v.item in ("q0", "q11")]
    append_verdicts(folder, [replace(v, score=None, why="an old parser could not", revision=1) for v in spoilt])
    capsys.readouterr()
    assert main(["judge", str(folder), "--reparse"]) == 0
    out = capsys.readouterr().out
    assert "24 replies read anew, 4 verdicts changed, 0 have no reply" in out
    assert "q0 org/a and org/b ab: was none (an old parser could not), is 0" in out
    assert scores(folder) == right
    assert server.served == 24
    assert main(["judge", str(folder), "--reparse", "--judge", "nobody"]) == 2
