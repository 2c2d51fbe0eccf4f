"""Evaluations that are not as one would wish, from the files to the page: the right number, or a message."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from recorded import lines

from align_eval.cli import main
from align_eval.page.write import report
from align_eval.results.document import Results
from align_eval.results.reading import read

ITEMS = [{"id": str(i), "prompt": f"prompt {i}"} for i in range(12)]


def said(a: str, b: str, scores: list[float | None], judge: str = "j", **more: Any) -> list[dict[str, Any]]:
    return [
        {"item": str(i), "models": [a, b], "judge": judge, "order": order, "score": score,
         **({"why": "cut off"} if score is None else {}), **more}
        for i, score in enumerate(scores) for order in ("ab", "ba")
    ]  # fmt: skip


def answers(*models: str, text: str = "so") -> list[dict[str, Any]]:
    return [{"item": item["id"], "model": model, "text": text} for model in models for item in ITEMS]


def world(folder: Path, *rows: list[dict[str, Any]]) -> Path:
    path = lines(folder / "rows.jsonl", [*ITEMS, *(row for some in rows for row in some)])
    assert main(["import", "rows", str(path), "--into", str(folder / "e")]) == 0
    return folder / "e"


def told(folder: Path, *command: str) -> Results:
    assert main([*command, str(folder)]) == 0
    report(folder)
    return read(folder)


def test_names_with_slashes_and_markup(tmp_path: Path) -> None:
    names = ("org/a", "../../etc/passwd", "<script>x", "a b")
    rows = [said(a, b, [1.0, 0.5] * 6) for i, a in enumerate(names) for b in names[i + 1 :]]
    folder = world(tmp_path, answers(*names), *rows)
    found = told(folder, "leaderboard")
    assert {row.model for row in found.sections.leaderboard} == set(names)
    assert not [p for p in tmp_path.rglob("*") if "passwd" in p.name and "etc" not in p.name]


def test_all_ties(tmp_path: Path) -> None:
    found = told(world(tmp_path, answers("a", "b"), said("a", "b", [0.5] * 12)), "leaderboard")
    assert [row.rank for row in found.sections.leaderboard] == [1, 1]
    assert [row.win_rate.value for row in found.sections.leaderboard] == [0.5, 0.5]
    assert [row.tied_with for row in found.sections.leaderboard] == [["b"], ["a"]]


def test_an_unbeaten_model_has_a_finite_rating_and_is_named(tmp_path: Path) -> None:
    found = told(world(tmp_path, said("a", "b", [1.0] * 12), said("b", "c", [1.0, 0.0] * 6)), "leaderboard")
    best = found.sections.leaderboard[0]
    assert (best.model, best.win_rate.value) == ("a", 1.0)
    assert best.rating.value is not None
    assert any("a never lost" in warning for warning in found.warnings)


def test_empty_answers_and_missing_verdicts_are_counted(tmp_path: Path) -> None:
    rows = said("a", "b", [1.0] * 6 + [None] * 6)
    found = told(world(tmp_path, answers("a", "b", text=""), rows), "compare", "b", "a", "-e")
    pair = next(row for row in found.sections.pairs if not row.category)
    assert (pair.wins, pair.missing) == (6, 12)
    assert sum(failure.count for failure in found.failures if "verdict" in failure.what) == 12


def test_one_model_alone_is_no_leaderboard(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = world(tmp_path, answers("a"))
    assert main(["leaderboard", str(folder)]) == 2
    assert "has no verdicts; make them with align-eval judge, or import them" in capsys.readouterr().err
    grades = [{"item": str(i), "models": ["a"], "judge": "j", "score": float(i)} for i in range(12)]
    lines(tmp_path / "grades.jsonl", grades)
    assert main(["import", "rows", str(tmp_path / "grades.jsonl"), "--into", str(folder)]) == 0
    assert main(["leaderboard", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "a alone was judged, and there is none to compare it with; scores:" in out
    assert "grade j: 5.5 [" in out
    (row,) = read(folder).sections.scores
    assert (row.model, row.estimate.value, row.estimate.n) == ("a", 5.5, 12)


def test_models_that_never_met_have_no_common_scale(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = world(tmp_path, said("a", "b", [1.0, 0.0] * 6), said("c", "d", [1.0, 0.0] * 6))
    assert main(["leaderboard", str(folder)]) == 2
    assert "have no common scale: a, b; c, d" in capsys.readouterr().err


def test_unequal_coverage_is_told(tmp_path: Path) -> None:
    short = [row for row in answers("a", "b") if row["model"] == "a" or int(row["item"]) < 5]
    found = told(world(tmp_path, short, said("a", "b", [1.0, 0.0, 1.0, 1.0, 0.5])), "compare", "a", "b", "-e")
    pair = next(row for row in found.sections.pairs if not row.category)
    assert pair.win_rate.clusters in (5, None)
    assert any("7" in warning for warning in found.warnings), found.warnings


def test_duplicate_prompts_are_items_of_their_own(tmp_path: Path) -> None:
    twins = [{"id": f"t{i}", "prompt": "the same"} for i in range(12)]
    rows = [{**row, "item": f"t{row['item']}"} for row in said("a", "b", [1.0, 1.0, 0.0] * 4)]
    found = told(world(tmp_path, twins, rows), "leaderboard")
    pair = next(row for row in found.sections.pairs if not row.category)
    assert (pair.wins, pair.losses) in ((8, 4), (4, 8))


def test_a_damaged_last_line_is_told_on_the_page(tmp_path: Path) -> None:
    folder = world(tmp_path, answers("a", "b"), said("a", "b", [1.0, 0.0] * 6))
    verdicts = next((folder / "verdicts").glob("*.jsonl"))
    with open(verdicts, "a") as file:
        file.write('{"item": "1", "mod')
    told(folder, "leaderboard")
    assert "the last line is damaged" in (folder / "report.html").read_text()
