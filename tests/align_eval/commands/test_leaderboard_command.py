"""`align-eval leaderboard` from a folder to a table and results.json."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from judged import both_orders, folder_of, verdict, world

from align_eval import store
from align_eval.cli import main
from align_eval.records import Score
from align_eval.results.reading import read


def test_a_board_of_verdicts(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    said = [*world({"org/a": 1.0, "b": 0.0, "c": -1.0}, 40), verdict("i0", "b", "c", None, repeat=1)]
    folder = folder_of(tmp_path / "e", said)
    assert main(["leaderboard", str(folder), "--anchor", "b=1200", "--seed", "3", "--resamples", "200"]) == 0
    out = capsys.readouterr().out
    assert "best, or not to be told from the best: org/a" in out
    assert "1 x verdict (b against c, J, i0): unreadable" in out
    results = read(folder)
    assert [row.model for row in results.sections.leaderboard] == ["org/a", "b", "c"]
    assert results.sections.leaderboard[1].rating.value == pytest.approx(1200)
    assert len(results.sections.pairs) == 3
    assert (results.manifest["seed"], results.manifest["resamples"]) == (3, 200)
    assert results.failures[0].count == 1


def test_what_is_there_twice_counts_once_and_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    said = both_orders("p", "a", "b", [1.0, 1.0]) + both_orders("q", "a", "b", [0.0, 1.0])
    folder = folder_of(tmp_path / "e", said)
    store.append_verdicts(folder, said[:1])
    assert main(["leaderboard", str(folder)]) == 0
    assert "1 row is there more than once; all say the same" in capsys.readouterr().out
    assert read(folder).sections.leaderboard[0].n == 4


def test_whoever_stops_reading_is_no_failure(tmp_path: Path):
    folder = folder_of(tmp_path / "e", both_orders("p", "a", "b", [1.0, 0.0]))
    words = [sys.executable, "-m", "align_eval", "leaderboard", str(folder)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()  # as `| head` does
    assert process.stderr is not None
    said = process.stderr.read()
    assert (process.wait(), said) == (0, b"")
    process.stderr.close()


def test_scores_alone_make_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    rows = [Score(item=f"p{i}", model=m, metric="sums:accuracy", score=float(i % 2)) for i in range(4) for m in "ab"]
    folder = folder_of(tmp_path / "e", scores=rows)
    assert main(["leaderboard", str(folder)]) == 0
    assert "sums accuracy: 50.0 %" in capsys.readouterr().out
    assert [row.model for row in read(folder).sections.scores] == ["a", "b"]


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--ties", "none"], "expected half or davidson"), (["--anchor", "a"], "expected MODEL=RATING"),
     (["--anchor", "a=x"], "expected MODEL=RATING"), (["--judge", "X"], "no judge 'X'; there are J"),
     (["--anchor", "a=1", "--anchor", "a=2"], "--anchor: a stands twice"),
     (["--anchor", "z=1000"], "no such model; there are a, b")],
)  # fmt: skip
def test_mistakes_have_a_message(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str):
    folder = folder_of(tmp_path / "e", both_orders("p", "a", "b", [1.0, 0.0]))
    assert main(["leaderboard", str(folder), *words]) == 2
    assert message in capsys.readouterr().err


def test_no_folder_and_one_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["leaderboard", str(tmp_path / "x")]) == 2
    assert "no such folder" in capsys.readouterr().err
    alone = folder_of(tmp_path / "e", both_orders("p", "a", "a", [1.0, 0.0]))
    assert main(["leaderboard", str(alone)]) == 2
    assert "has no verdicts" in capsys.readouterr().err
