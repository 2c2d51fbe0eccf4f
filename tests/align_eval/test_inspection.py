"""`align-eval inspect`: one item, nothing left out."""

from __future__ import annotations

import pytest
from evaluations import MODELS, folder

from align.judges.base import Order, Verdict
from align_eval.cli import main
from align_eval.inspection import said


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(folder(tmp_path_factory.mktemp("evaluation")))


def test_all_of_an_item(evaluation: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", evaluation, "item 0"]) == 0
    out = capsys.readouterr().out
    expected = [
        "Item item 0 (maths)", "prompt 0 </script>", "Reference:\n42", "org/base says 0", "a|b_c%=1 says 0",
        "gsm8k:exact: missing: not read", "judge <b>: org/base preferred to tuned </title> (org/base shown first)",
        "flags: ['contradicts its explanation']", "because 0 </script>", "3 answers, 2 verdicts, 2 scores",
    ]  # fmt: skip
    for words in expected:
        assert words in out, words
    assert "\u202e" not in out


def test_by_number_and_by_model(evaluation: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", evaluation, "5", "-m", MODELS[0]]) == 0
    out = capsys.readouterr().out
    assert "Item item 4" in out
    assert "org/base says 4" in out
    assert "a|b_c%=1" not in out


def test_what_is_not_there_is_told(evaluation: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", evaluation, "item 300"]) == 2
    assert "no such item: item 300; it has 30 items. Did you mean item 3" in capsys.readouterr().err
    assert main(["inspect", evaluation, "1", "-m", "org/bose"]) == 2
    assert "Did you mean org/base?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("score", "order", "words"),
    [
        (1.0, "ab", "a preferred to b (a shown first)"),
        (0.2, "ba", "b preferred to a with 0.80 (b shown first)"),
        (0.5, "ab", "tie of a and b (a shown first)"),
        (None, "ba", "no verdict on a and b (b shown first): lost"),
    ],
)
def test_verdicts_in_words(score: float | None, order: Order, words: str) -> None:
    verdict = Verdict(item="1", models=("a", "b"), judge="j", order=order, score=score, why="lost")
    assert said(verdict) == words


def test_an_order_that_nobody_knows_is_not_told() -> None:
    verdict = Verdict(item="1", models=("a", "b"), judge="j", order="ab", score=1.0, columns={"ordered": False})
    assert said(verdict) == "a preferred to b (no order is known)"


def test_a_grade_in_words() -> None:
    assert said(Verdict(item="1", models=("a",), judge="j", score=9.5)) == "grade 9.5 for a"
