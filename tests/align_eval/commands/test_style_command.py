"""`align-eval style` from answers and verdicts to two ratings, their difference, and a section of the page."""

from __future__ import annotations

from pathlib import Path

import pytest
from judged import both_orders, folder_of

from align_eval.cli import main
from align_eval.records import Answer
from align_eval.results.reading import read


def longer_wins(folder: Path, prompts: int = 40) -> Path:
    """The judge takes the longer answer nine times in ten; `b` mostly writes more, and is no better."""
    said, answers = [], []
    for i in range(prompts):
        words = {"a": 10 + i % 7, "b": 10 + i * 5 % 11}
        answers += [Answer(item=f"i{i}", model=m, text="w " * n + ("\n- x" * (i % 3))) for m, n in words.items()]
        a_wins = (words["a"] > words["b"]) != (i % 10 == 0)
        said += both_orders(f"i{i}", "a", "b", [float(a_wins)] * 2)
    return folder_of(folder, said, (), answers)


def test_both_ratings_and_what_style_earns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = longer_wins(tmp_path / "e")
    assert main(["leaderboard", str(folder), "--resamples", "20"]) == 0
    assert main(["style", str(folder), "--resamples", "60"]) == 0
    out = capsys.readouterr().out
    assert "one standard deviation more of length: +" in out
    assert "the answers of no game differ in headers, bold" in out
    found = read(folder).sections
    raw = {row.model: row.rating.value for row in found.leaderboard}
    assert {row.model: row.rating.value for row in found.styles} == pytest.approx(raw)
    for row in found.styles:
        assert (row.moved.value or 0) == pytest.approx((row.controlled.value or 0) - (row.rating.value or 0))
    effects = {row.feature: row.effect for row in found.effects}
    assert (effects["length"].low or 0) > 0
    assert (effects["bold"].value, effects["bold"].why) == (None, "no two answers of a game differ in it")
    assert main(["report", str(folder)]) == 0
    assert "Rating at equal style, by J" in (folder / "report.html").read_text()
    assert "Ratings at equal style" in (folder / "tables/styles.md").read_text()


def test_without_answers_nothing_is_known_of_style(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alone = [Answer(item="p", model="a", text="x")]
    folder = folder_of(tmp_path / "e", both_orders("p", "a", "b", [1.0, 1.0]), (), alone)
    assert main(["style", str(folder)]) == 2
    assert "no answers of a, b to judged prompts" in capsys.readouterr().err
    assert not (folder / "results.json").exists()
