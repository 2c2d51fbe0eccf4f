"""The shipped reward functions, by their arithmetic."""

from __future__ import annotations

from typing import Any

import pytest

from align.rewards.base import find_reward, reward_names
from align.rewards.math.math_answer import final_answer


def judged(name: str, completions: list[Any], settings: dict[str, Any] | None = None, **columns: Any) -> Any:
    given: dict[str, Any] = {"completion_ids": [[0] * len(str(c).split()) for c in completions], **columns}
    return find_reward(name, settings or {})(prompts=[""] * len(completions), completions=completions, **given)


def test_all_are_found():
    single = {"answer_format", "contains", "learned", "length", "math_answer", "repetition"}
    assert set(reward_names()) == single | {"win_rate"}


def test_contains_counts_whole_words():
    words = {"words": ["happy", "fun"]}
    texts = ["They were HAPPY.", "An unhappy funeral.", "Fun, and happy too: fun!", ""]
    assert judged("contains", texts, words) == [1, 0, 1, 0]
    assert judged("contains", texts, words | {"count": "share"}) == [0.5, 0, 1, 0]
    said = [[{"role": "assistant", "content": "Such fun"}]]
    assert judged("contains", said, words) == [1]
    assert judged("contains", ["red", "blue"], {"column": "must"}, must=["red", None]) == [1, None]


def test_length_falls_evenly():
    texts = [" ".join("w" * n) for n in (4, 2, 6, 8, 12)]
    assert judged("length", texts, {"target": 4}) == [1, 0.5, 0.5, 0, 0]
    assert judged("length", texts, {"target": 4, "tolerance": 2}) == [1, 0, 0, 0, 0]


def test_repetition_is_the_share_of_word_groups_that_come_again():
    # three of the four pairs of "a b a b a" come a second time or are the first: {ab, ba} of ab, ba, ab, ba
    assert judged("repetition", ["a b c d", "a b a b a", "x"], {"ngram": 2}) == [0, -0.5, 0]


def test_format_matches_from_beginning_to_end():
    right = "<think>one\ntwo</think>\n<answer>3</answer>"
    assert judged("answer_format", [right, right + "!", "<answer>3</answer>"]) == [1, 0, 0]
    twice = [right + "<answer>4</answer>", "<think>a<answer>3</answer></think>" + right]
    assert judged("answer_format", twice) == [0, 0]
    assert judged("answer_format", ["ab", "abc"], {"pattern": "a.*c"}) == [0, 1]


@pytest.mark.parametrize(
    ("text", "gold", "earned"),
    [
        (r"so it is \boxed{\frac{1}{2}}", "0.5", 1),
        (r"first \boxed{3}, then \boxed{4}", "4", 1),
        (r"\boxed{x + 1}", "1+x", 1),
        (r"\boxed{x - 1}", "1-x", 0),
        (r"\boxed{oops", "3", 0),
        ("The answer is 1,080.", "9 * 120 = 1,080\n#### 1,080", 1),
        ("The answer is $18.00 a day", "#### 18", 1),
        ("2 + 3 = 5\n#### 5", "5", 1),
        ("It was 17, and then 18", "18", 1),
        ("It was 18, and then 17", "18", 0),
        ("answer: 25%", "0.25", 1),
        ("answer: 25", "0.25", 0),
        ("I cannot say.", "3", 0),
        ("-3", "3", 0),
        ("whatever", "", None),
        ("whatever", None, None),
    ],
)
def test_answers(text: str, gold: str | None, earned: float | None):
    assert judged("math_answer", [text], answer=[gold]) == [earned]


def test_without_the_symbolic_part_text_and_number_decide():
    assert judged("math_answer", [r"\boxed{x + 1}"], {"symbolic": False}, answer=["1+x"]) == [0]
    assert judged("math_answer", [r"\boxed{x + 1}"], {"symbolic": False}, answer=["x+1"]) == [1]


def test_an_answer_that_is_cut_off_is_none():
    assert final_answer("####") is None
    assert final_answer("") is None
