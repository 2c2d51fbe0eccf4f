"""`math_answer` on real gold answers (GSM8K, SVAMP), and on the ways in which models write them."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest

from align.rewards.math.math_answer import Reward

Rows = list[dict[str, object]]
FILES = ("gsm8k/train", "gsm8k/test", "svamp/train", "svamp/test")
FORMS = {
    "alone": "{}", "hashes": "#### {}", "box": r"\boxed{{{}}}", "tags": "<think>1 + 2</think><answer>{}</answer>",
    "said": "The answer is {}.", "bold": "The answer is **{}**.", "head": "**Answer:** {}", "unit": "#### {} apples",
    "unit_in_box": r"\boxed{{{} apples}}", "sentence": "In all she has {} apples.", "sum": "1+2={}",
}  # fmt: skip


def rows_of(repository: Path, name: str) -> Rows:
    text = (repository / "tests/data" / f"{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def gold_of(row: dict[str, object]) -> str:
    return str(row["answer"]).rpartition("####")[2].strip()


def earned(texts: list[str], rows: Rows) -> list[float | None]:
    # math-verify plays no part: what is a number is settled without it
    return Reward(symbolic=False)([], texts, answer=[row["answer"] for row in rows])


@pytest.mark.parametrize("name", FILES)
def test_every_gold_answer_earns_1_and_another_number_0(name: str, repository: Path):
    rows = rows_of(repository, name)
    assert len(rows) >= 40
    assert earned([str(row["answer"]) for row in rows], rows) == [1.0] * len(rows)
    wrong = [f"The answer is {float(Fraction(gold_of(row).replace(',', ''))) + 1}" for row in rows]
    assert earned(wrong, rows) == [0.0] * len(rows)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", FILES)
def test_every_form_of_it_earns_1(name: str, form: str, repository: Path):
    rows = rows_of(repository, name)
    numbers: list[Callable[[Fraction], str]] = [lambda n: f"{int(n)}", lambda n: f"{int(n):,}", lambda n: f"{int(n)}.0"]
    for written in numbers:
        whole = [row for row in rows if Fraction(gold_of(row).replace(",", "")).denominator == 1]
        texts = [FORMS[form].format(written(Fraction(gold_of(row).replace(",", "")))) for row in whole]
        assert earned(texts, whole) == [1.0] * len(whole)


def test_the_cuts_have_what_is_hard(repository: Path):
    assert any(gold_of(row).startswith("-") for row in rows_of(repository, "gsm8k/train"))
    assert any("," in gold_of(row) for row in rows_of(repository, "gsm8k/test"))


@pytest.mark.parametrize(
    ("text", "gold", "value"),
    [
        ("so 10-7", "7", 1),  # a difference, no negative number
        ("x is -7", "-7", 1),
        ("x is \u22127", "-7", 1),  # typeset minus
        ("#### $72 per week.", "72", 1),
        (r"\boxed{5 million}", "5", 0),
        (r"\boxed{5 or 6}", "5", 0),
        (r"\boxed{5 pi}", "5", 0),
        ("#### 25%", "25", 1),
        ("#### 0.5%", "0.5", 0),
        ("#### 25", "25%", 0),
        ("It is 2**3.", "3", 1),
        ("#### 5,6", "56", 0),
    ],
)
def test_numbers_in_a_text(text: str, gold: str, value: float):
    assert Reward(symbolic=False)([], [text], answer=[gold]) == [value]
