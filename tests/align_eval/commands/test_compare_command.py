"""`align-eval compare` from the words of a command to its exit code."""

from __future__ import annotations

from pathlib import Path

import pytest
from judged import both_orders, folder_of, world

from align_eval.cli import main
from align_eval.results.reading import read
from align_eval.results.tables import as_markdown, tables


def test_an_empty_gate_is_a_mistake_and_does_not_open(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = folder_of(tmp_path / "e", both_orders("p", "a", "b", [1.0, 1.0]))
    assert main(["compare", "a", "b", "-e", str(folder), "--gate", ""]) == 2  # as of a variable that is not set
    assert "expected NAME > NUMBER at LEVEL%" in capsys.readouterr().err


def test_p_values_are_adjusted_over_the_whole_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Holm over three of 0.016, 0.016 and one near 1; of one alone it is the p-value itself."""
    folder = folder_of(tmp_path / "e", world({"a": 3.0, "b": 0.0, "c": 0.0}, 7))
    assert main(["compare", "b", "a", "-e", str(folder)]) == 0
    assert "are adjusted" not in capsys.readouterr().out
    (alone,) = read(folder).sections.pairs
    assert alone.adjusted["holm"] == alone.tests["permutation"]
    for pair in (("c", "a"), ("c", "b")):
        assert main(["compare", *pair, "-e", str(folder)]) == 0
    assert "p-values there are adjusted over its 3 pairs" in capsys.readouterr().out
    results = read(folder)
    rows = results.sections.pairs
    assert {row.family for row in rows} == {3}
    first, second, third = sorted(row.tests["permutation"] or 0.0 for row in rows)
    assert sorted(row.adjusted["holm"] or 0.0 for row in rows) == pytest.approx(
        [3 * first, max(3 * first, 2 * second), max(3 * first, 2 * second, third)]
    )
    (table,) = (t for t in tables(results) if t.name == "pairs")
    assert "p-values: adjusted over 3 comparisons, of this and of earlier commands" in as_markdown(table)


@pytest.mark.parametrize("content", ["{", '{"schema": 99}', "\x00", None])
def test_results_that_cannot_be_added_to_are_refused_before_work(
    content: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folder_of(tmp_path / "e", both_orders("p", "a", "b", [1.0, 1.0]))
    path = folder / "results.json"
    if content is None:
        path.mkdir()
    else:
        path.write_text(content)
    before = sorted(p for p in folder.rglob("*"))
    for words in (["compare", "a", "b", "-e", str(folder)], ["leaderboard", str(folder)]):
        assert main(words) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert f"{path}: " in said.err
        assert "move it away, or take another folder" in said.err
    assert sorted(p for p in folder.rglob("*")) == before
    assert content is None or path.read_text() == content
