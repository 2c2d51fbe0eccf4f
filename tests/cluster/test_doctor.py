"""What the doctor makes of what ranks have left, and of what they have not."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from align.cli.main import main
from align.cluster.logs import parts_of
from align.world.heartbeat import Heartbeat, new_attempt, read_beats
from align.world.stages import doing


def left(run: Path, attempt: str, rank: int, *, ago: float = 0.0, ended: str = "", stacks: bool = False) -> None:
    """What a rank of this attempt wrote last, so many seconds ago."""
    folder = run / f"launch/attempt-{attempt}"
    folder.mkdir(parents=True, exist_ok=True)
    with doing("learning", 7):
        Heartbeat(folder, rank, 5.0).beat(ended)
        if stacks:
            Heartbeat(folder, rank, 5.0).stacks()
    path = folder / f"rank-{rank:05d}.json"
    told = json.loads(path.read_text()) | {"node": f"n{rank + 1}", "time": time.time() - ago}
    path.write_text(json.dumps(told))


def doctor(run: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    capsys.readouterr()
    assert main(["launch", "doctor", str(run)]) == 0
    return capsys.readouterr().out.splitlines()


def test_one_that_is_silent_is_named_and_the_others_are_not_blamed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    left(tmp_path, "17.0", 0, ended="nothing has been heard of rank 1 on n2", stacks=True)
    left(tmp_path, "17.0", 1, ago=120)
    (tmp_path / "checkpoints/step-000006").mkdir(parents=True)
    told = doctor(tmp_path, capsys)
    assert told[0] == "no job: it was not submitted by `align launch slurm`"
    assert told[1] == "attempt-17.0: 2 ranks have begun"
    assert told[2].startswith("  rank 1 on n2: step 7, learning when last heard of, ")
    assert told[3].startswith("  rank 0 on n1: step 7, learning since ")
    assert told[3].endswith("; ended: nothing has been heard of rank 1 on n2")
    assert "align/world/heartbeat.py, line " in told[4]
    assert told[5].startswith("look at n2: dmesg")
    assert told[6].startswith("last checkpoint: step-000006; go on with sbatch ")


@pytest.mark.parametrize(
    ("ago", "ended", "told"),
    [
        (0, "", "all ranks give signs of life"),
        (300, "", "no rank gives a sign of life: if the job still runs, cancel it"),
        (300, "finished", "all ranks have finished"),
        (0, "no rank has got on: rank 1 on n2: step 7, rewarding", "all lived and none got on: compare the stacks"),
    ],
)
def test_what_all_have_in_common(ago: int, ended: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for rank in range(2):
        left(tmp_path, "17.0", rank, ago=ago, ended=ended)
    assert any(line.startswith(told) for line in doctor(tmp_path, capsys))


def test_earlier_attempts_have_a_line_and_what_others_met_with_is_no_cause(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    left(tmp_path, "17.0", 0, ended="another process of this run has ended (Connection closed by peer)")
    left(tmp_path, "17.0", 1, ended="no room on the disk")
    os.utime(tmp_path / "launch/attempt-17.0", (0, 0))
    left(tmp_path, "17.1", 0)
    told = doctor(tmp_path, capsys)
    assert "attempt-17.0: rank 1 on n2: step 7, learning; ended: no room on the disk" in told
    assert "attempt-17.1: 1 ranks have begun" in told


def test_of_many_ranks_those_that_stand_apart_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for rank in range(40):
        left(tmp_path, "17.0", rank)
    odd = tmp_path / "launch/attempt-17.0/rank-00023.json"
    odd.write_text(json.dumps(json.loads(odd.read_text()) | {"stage": "rewarding"}))
    told = doctor(tmp_path, capsys)
    assert told[2].startswith("  rank 23 on n24: step 7, rewarding since ")
    assert len(told) < 15


@pytest.mark.parametrize("text", ["no json", "{}", "[]", '{"rank": 0, "time": "soon"}', ""])
def test_a_heartbeat_that_cannot_be_read_is_told(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    left(tmp_path, "17.0", 0)
    (tmp_path / "launch/attempt-17.0/rank-00001.json").write_text(text)
    assert any(line.endswith("ended: rank-00001.json cannot be read") for line in doctor(tmp_path, capsys))


def test_what_is_no_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["launch", "doctor", str(tmp_path / "nowhere")]) == 2
    assert main(["launch", "doctor", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert "nowhere: no such folder; give a run's" in told
    assert f"{tmp_path}: has no launch/; a job or a run of several processes makes it" in told


def test_a_shorter_beat_covers_a_longer_one_and_a_new_attempt_is_empty(tmp_path: Path):
    new_attempt(tmp_path)
    beat = Heartbeat(tmp_path / "launch/attempt-0", 3, 5.0)
    beat.beat("a long reason " * 100)
    beat.beat()
    assert read_beats(beat.folder)[3].ended == ""
    assert read_beats(beat.folder)[3].beats == 2
    new_attempt(tmp_path)
    assert read_beats(beat.folder) == {}


def test_a_folder_that_takes_no_heartbeat_ends_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    beat = Heartbeat(tmp_path / "nowhere", 0, 5.0)
    beat.beat()
    beat.stacks()
    assert capsys.readouterr().err.count("heartbeats cannot be written") == 1


def test_a_log_is_taken_apart(tmp_path: Path):
    log = tmp_path / "slurm-17.log"
    log.write_text("==== attempt 1 of job 17, x\na\nb\n==== attempt 2 of job 17, y\nc\n")
    assert [(part.number, len(part.lines)) for part in parts_of(log)] == [(1, 3), (2, 2)]
    log.write_text("no attempt\n")
    assert [(part.number, part.lines) for part in parts_of(log)] == [(0, ["no attempt"])]
