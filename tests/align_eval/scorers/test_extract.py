"""Where answers are found, strictly and flexibly, and where none is."""

from __future__ import annotations

import pytest

from align_eval.records import Answer, Item
from align_eval.scorers.choices import of_choice, of_pair, of_truth
from align_eval.scorers.extract import extract
from align_eval.scorers.texts import same_mathematics, same_text
from align_eval.tasks.task import Extractor, load


@pytest.mark.parametrize(
    ("how", "text", "found"),
    [
        (Extractor(by="after", marker="####"), "2+2=4\n#### 4.\nBye", "4"),
        (Extractor(by="after", marker="####"), "#### 3\n#### 5", "5"),
        (Extractor(by="after", marker="####"), "it is 4", None),
        (Extractor(by="after", marker="####"), "#### ", None),
        (Extractor(by="boxed"), r"so \boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (Extractor(by="boxed"), r"cut off \boxed{\frac{1}", None),
        (Extractor(by="final_answer"), "He has 3 and then 7 apples.", "7"),
        (Extractor(by="final_answer"), "No idea.", None),
        (Extractor(by="letter"), "The answer is (B), as C is wrong.", "B"),
        (Extractor(by="letter"), "A dog barks, so **D**", "D"),
        (Extractor(by="letter"), "(A) is wrong, (C) is right", "C"),
        (Extractor(by="letter"), "A cat.", None),
        (Extractor(by="letter", letters="AB"), "The answer is C", None),
        (Extractor(by="last_line"), "So the answer is valid.\n", "valid"),
        (Extractor(by="last_line"), "first\n\nlast.", "last"),
        (Extractor(by="last_line"), "answer: ] ] >", "] ] >"),
        (Extractor(by="pattern", pattern=r"x=(\d+)"), "x=1 x=2", "2"),
        (Extractor(by="pattern", pattern=r"x=(\d+)"), "y", None),
        (Extractor(by="whole"), "  a b ", "a b"),
        (Extractor(by="whole"), "<think>3</think> 4", "4"),
        (Extractor(by="code"), "```py\nx = 1\n```", "x = 1\n"),
        (Extractor(by="code"), "   \n", None),
    ],
)
def test_extractors(how: Extractor, text: str, found: str | None):
    assert extract(how, text) == found


def test_comparisons():
    assert same_mathematics("$1,080.00", "1080")
    assert same_mathematics("72 dollars", "72")
    assert same_mathematics(r"\frac{1}{2}", "0.5")
    assert not same_mathematics("73", "72")
    assert same_text("(b)", "B")
    assert same_text(" Valid. ", "valid")
    assert not same_text("invalid", "valid")


def found_by(scorer: object, name: str, item: Item, columns: dict[str, object]) -> dict[str, float | None]:
    answer = Answer(item=item.id, model="m", text="", columns=columns)
    return {metric: score for metric, score, _, _ in scorer(load(name), item, answer)}  # type: ignore[operator]


def test_choices_by_sum_by_token_and_by_byte():
    """-6 over 3 tokens and 12 bytes, -5 over 1 token and 2 bytes: by sum the second, otherwise the first."""
    item = Item(id="1", prompt="", reference="long answer", columns={"choices": ["long answer", "no"]})
    columns = {"logps": [-6.0, -5.0], "tokens": [3, 1], "bytes": [12, 2]}
    found = found_by(of_choice, "mmlu", item, columns)
    assert (found["accuracy"], found["accuracy_per_token"], found["accuracy_per_byte"]) == (0.0, 1.0, 1.0)
    assert found["probability"] == pytest.approx(1 / (1 + 2.718281828))  # e^-6 / (e^-6 + e^-5)


def test_choices_that_are_as_likely_share_the_credit():
    item = Item(id="1", prompt="", reference="A", columns={"choices": ["A", "B"]})
    columns = {"logps": [-1.0, -1.0], "tokens": [1, 1], "bytes": [1, 1]}
    assert found_by(of_choice, "mmlu", item, columns)["accuracy"] == 0.5


def test_truthfulqa_by_hand():
    """True answers -1 and -3, false -2: mc1 right; mc2 (e^-1 + e^-3) / (e^-1 + e^-3 + e^-2) = 0.7553."""
    columns = {"choices": ["best", "also", "wrong"], "incorrect_answers": ["wrong"]}
    item = Item(id="1", prompt="", columns=columns)
    found = found_by(of_truth, "truthfulqa", item, {"logps": [-1.0, -3.0, -2.0], "tokens": [1, 1, 1]})
    assert found["mc1"] == 1.0
    assert found["mc2"] == pytest.approx(0.755272, abs=1e-6)  # 0.417667 / (0.417667 + 0.135335)


def test_pairs_that_are_one_text_or_as_likely():
    item = Item(id="1", prompt="", columns={"choices": ["a", "b"]})
    assert found_by(of_pair, "hhh", item, {"logps": [-2.0, -2.0], "tokens": [1, 2], "bytes": [1, 1]}) == {
        "accuracy": 0.5, "accuracy_per_token": 0.0, "accuracy_per_byte": 0.5,
    }  # fmt: skip
    same = Item(id="1", prompt="", columns={"choices": ["a", "a"]})
    assert set(found_by(of_pair, "hhh", same, {"logps": [-2.0, -2.0]}).values()) == {None}
