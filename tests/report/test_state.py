"""Runs that go on or were stopped say so, and a page is written anew while they go on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pages import read
from report.simulated import write_json, write_pipeline, write_run

from align.cli.main import main
from align.report.folder import read_run
from align.report.page import write
from align.report.state import State, progress, state_of
from align.report.watch import report
from align.runfolder.lock import LOCK, Lock


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """That has not ended."""
    run = write_run(tmp_path / "dpo", steps=40)
    (run / "outcome.json").unlink()
    return run


def test_a_run_that_was_stopped_says_so_and_how_far_it_came(run: Path) -> None:
    found = read(write([run])).words
    assert "A training run, stopped at step 40, in epoch 3 of 3" in found
    assert "Warning. This run was stopped or has failed at step 40" in found
    assert "`align train RECIPE --resume` goes on from its last checkpoint" in found
    write_json(run / "outcome.json", {"step": 40})
    assert "stopped" not in read(write([run])).words


def test_progress_is_told_in_steps_where_their_number_is_known(tmp_path: Path) -> None:
    assert progress(read_run(write_run(tmp_path / "a", steps=5, training__max_steps=12))) == "at step 5 of 12"


def test_a_run_that_goes_on_is_no_run_that_was_stopped(run: Path) -> None:
    lock = Lock(run / LOCK)
    lock.take()
    try:
        words = read(write([run])).words
        assert "A training run, goes on at step 40" in words
        assert "This run goes on (process" in words
        assert "Warning. This run" not in words
    finally:
        lock.release()
    assert state_of(read_run(run)) is State.STOPPED


def test_a_stage_of_a_pipeline_says_that_it_was_stopped(tmp_path: Path) -> None:
    folder = write_pipeline(tmp_path / "quickstart")
    (folder / "sft" / "outcome.json").unlink()
    words = read(write([folder])).words
    assert words.count("This run was stopped") == 1
    assert words.index("sft (stopped at step 120)") < words.index("This run was stopped")


def test_a_page_is_written_anew_until_the_run_has_ended(run: Path) -> None:
    """Each look at the files finds what the run has written meanwhile."""
    lock, told, seen = Lock(run / LOCK), list[str](), list[str]()
    lock.take()

    def meanwhile(seconds: float) -> None:
        assert seconds >= 2
        seen.append((run / "report.html").read_text())
        if len(seen) == 1:
            with (run / "metrics.jsonl").open("a") as out:
                out.write(json.dumps({"step": 41, "loss": 0.1}) + "\n")
        elif len(seen) == 2:
            write_json(run / "outcome.json", {"step": 41})
            lock.release()

    report([run], None, told.append, watch=True, wait=meanwhile)
    assert ["goes on at step 40" in seen[0], "goes on at step 41" in seen[1], len(seen)] == [True, True, 2]
    assert 'data-watched="5"' in seen[1]
    last = read(run / "report.html")
    assert [attrs for attrs in last.having("main") if "data-watched" in attrs] == []
    assert "goes on" not in last.words
    assert told == [f"{run / 'report.html'}: written anew as the runs go on; stop it by Ctrl-C"]


def test_a_run_that_has_only_taken_its_folder_can_be_watched(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    lock, words = Lock(tmp_path / "new" / LOCK), list[str]()
    lock.take()

    def meanwhile(seconds: float) -> None:
        words.append(read(tmp_path / "new" / "report.html").words)
        write_run(tmp_path / "new", steps=3)
        lock.release()

    report([tmp_path / "new"], None, words.append, watch=True, wait=meanwhile)
    assert "has not logged a step yet" in words[1]
    assert "steps 3" in read(tmp_path / "new" / "report.html").words


def test_a_sweep_is_watched_until_nobody_runs_it(tmp_path: Path) -> None:
    write_run(tmp_path / "b=1", steps=3)
    (tmp_path / "sweep.yaml").write_text("values: {a.b: ['1', '2']}\ncells: ['b=1', 'b=2']\n")
    lock, words = Lock(tmp_path / ".sweep.lock"), list[str]()
    lock.take()

    def meanwhile(seconds: float) -> None:
        words.append(read(tmp_path / "report.html").words)
        write_run(tmp_path / "b=2", steps=3, seed=1)
        lock.release()

    report([tmp_path], None, words.append, watch=True, wait=meanwhile)
    assert "Not begun yet, or failed before a step: b=2." in words[1]
    assert "A sweep: 2 runs side by side" in read(tmp_path / "report.html").words


def test_a_run_that_is_over_is_written_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "dpo", steps=5)
    assert main(["report", str(run), "--watch"]) == 0
    assert capsys.readouterr().out == f"{run / 'report.html'}\n"
    assert main(["report", str(tmp_path / "none"), "--watch"]) == 2
    assert "no such folder" in capsys.readouterr().err
