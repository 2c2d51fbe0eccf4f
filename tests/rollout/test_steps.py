"""Steps of a completion: what the rules say, what no text may break, and what users get wrong."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Callable
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from align.errors import RunError, UserError
from align.rollout.steps import Checked, Segmenter, find_segmenter, gsm8k, math, newline, token_starts

ALL = pytest.mark.parametrize("segmenter", [newline, gsm8k, math])
LINES = pytest.mark.parametrize("segmenter", [newline, gsm8k])
SCRAPS = (
    *(
        "\n",
        "\n",
        "\n#### ",
        " ",
        "\t",
        "\r\n",
        "####",
        ". The",
        ".",
        ",",
        " and ",
        ":",
        " to ",
        "=",
        "+",
        "\\equiv",
        "_",
    ),
    *("$", "$$", "\\(", "\\)", "\\[", "\\]", "\\\\[", "\\$", "[asy]", "[/asy]", "\\begin{align*}", "\\end{align*}"),
    *("$\\begin{tabular}", "\\end{tabular}$", "x", "Mr. Jones", "e.g. ", "many words of text", "$x=1.$", ",$"),
    *("é", "字", "😀", "\u2028", "\0"),
)


def steps(segmenter: Segmenter, text: str) -> list[str]:
    return [text[begin:end] for begin, end in pairwise(segmenter(text))]


def scraps(seed: int) -> str:
    """A text of all that the rules look at, in any order, well formed or not."""
    draw = random.Random(seed)
    return "".join(draw.choices(SCRAPS, k=draw.randrange(60)))


@ALL
def test_steps_make_up_the_text(segmenter: Segmenter) -> None:
    for text in map(scraps, range(1000)):
        found = segmenter(text)
        assert (found[0], found[-1]) == (0, len(text))
        assert all(before < after for before, after in pairwise(found))
        assert "".join(steps(segmenter, text)) == text


@LINES
def test_a_step_is_one_step(segmenter: Segmenter) -> None:
    for text in map(scraps, range(1000)):
        for step in steps(segmenter, text):
            assert steps(segmenter, step) == [step]


def test_without_a_marker_gsm8k_is_newline() -> None:
    for text in map(scraps, range(1000)):
        assert gsm8k(text.replace("#", "")) == newline(text.replace("#", ""))


@ALL
@pytest.mark.parametrize("text", ["\n", "\n\n\n", " \n ", "x", "字", "Yes."])
def test_what_cannot_be_divided_is_one_step(segmenter: Segmenter, text: str) -> None:
    assert segmenter(text) == [0, len(text)]


@ALL
def test_the_empty_text_has_no_step(segmenter: Segmenter) -> None:
    assert segmenter("") == [0]


@pytest.mark.parametrize(
    "expected",
    [
        ["a", "\nb"],
        ["\n \na", "\nb"],
        ["  a", "\nb"],
        ["a", "\n", "\nb"],
        ["a", "\n"],
        ["字\r", "\né😀", "\n"],
        ["a", "\n#### 4"],
    ],
)
def test_newline(expected: list[str]) -> None:
    assert steps(newline, "".join(expected)) == expected


@pytest.mark.parametrize(
    "expected",
    [
        ["a", "\nb\n#### 4"],
        ["a\n#### 4"],
        ["a", "\n", "\nb\n \n\n#### 4\n\n"],
        ["\n#### 4"],
        ["\n\n\n#### 4\nand so on"],
        ["#### 4", "\na"],  # no newline before it: no marker
        ["a", "\n####4"],  # nor without the space behind it
        ["a", "\nb\n#### 4\nc\n#### 5"],  # the first counts
        ["\n\na\n#### 4"],
    ],
)
def test_gsm8k(expected: list[str]) -> None:
    assert steps(gsm8k, "".join(expected)) == expected


# Users' functions


def checked(returned: Any) -> Segmenter:
    return Checked("mine:cut", lambda text: returned)


@pytest.mark.parametrize(
    ("returned", "finding"),
    [
        ([1, 4, 9], r"returned \[1, 4, 9\], which begins with 1"),
        ([0, 4], r"returned \[0, 4\], which ends with 4"),
        ([0, 4, 4, 9], "where 4 follows 4"),
        ([0, 7, 3, 9], "where 3 follows 7"),
        (np.array([0, 3, 3, 9]), r"returned \[0, 3, 3, 9\], where 3 follows 3"),
        ([], "which is empty"),
        ([0, 4.5, 9], "where 4.5 is no whole number"),
        (["Two ", "words"], "where 'Two ' is no whole number"),
        (np.array([[0, 4], [4, 9]]), "is no whole number"),
        ("0 9", "returned str; expected a list"),
        (None, "returned NoneType; expected a list"),
        (9, "returned int; expected a list"),
    ],
)
def test_wrong_boundaries_are_told(returned: Any, finding: str) -> None:
    with pytest.raises(RunError, match=rf"segmenter mine:cut: .*{finding}") as caught:
        checked(returned)("Two words")
    assert "'Two words'" in str(caught.value)
    if "returned [" in str(caught.value):
        assert "the first 0, the last 9" in str(caught.value)


@pytest.mark.parametrize("returned", [[0, 9], (0, 4, 9), np.array([0, 4, 9]), [np.int32(0), 9]])
def test_right_boundaries_become_a_list(returned: Any) -> None:
    found = checked(returned)("Two words")
    assert found == list(returned)
    assert all(type(boundary) is int for boundary in found)


def test_an_exception_in_a_users_function_is_told() -> None:
    with pytest.raises(RunError, match=r"segmenter mine:cut: ZeroDivisionError: .*test_steps.py, line \d+\)"):
        Checked("mine:cut", lambda text: 1 / 0)("Two words")


def test_a_users_function_never_sees_the_empty_text() -> None:
    assert Checked("mine:cut", lambda text: 1 / 0)("") == [0]


def test_long_texts_are_shortened_in_complaints() -> None:
    with pytest.raises(RunError) as caught:
        checked(list(range(1, 10_000)))("word " * 10_000)
    assert len(str(caught.value)) < 500


def test_segmenters_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cuts_of_mine.py").write_text("WORD = 'x'\ndef halves(text): return [0, len(text) // 2, len(text)]\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert [find_segmenter(name) for name in ("newline", "gsm8k", "math")] == [newline, gsm8k, math]
    assert find_segmenter("cuts_of_mine:halves")("four") == [0, 2, 4]
    for name, finding in (
        ("newlines", r"no such segmenter: newlines; there are newline, gsm8k, math, or .* Did you mean newline\?"),
        ("cuts_of_mine.halves", r"no such segmenter: .*; did you mean cuts_of_mine:halves\?"),
        ("cuts_of_mine:halve", "segmenter cuts_of_mine:halve: .*has no attribute"),
        ("cuts_of_mine:WORD", "segmenter cuts_of_mine:WORD: str is not callable; name a function"),
        ("cuts_of_yours:halves", "segmenter cuts_of_yours:halves: No module named"),
    ):
        with pytest.raises(UserError, match=finding):
            find_segmenter(name)


# Tokens


def before(lengths: list[int]) -> Callable[[int], int]:
    """`chars_before` of tokens that are so many characters long."""
    return [0, *accumulate(lengths)].__getitem__


@pytest.mark.parametrize(
    ("boundaries", "lengths", "expected"),
    [
        ([0, 4, 8], [2, 2, 2, 2], [0, 2]),
        ([0, 4, 8], [3, 2, 3], [0, 2]),  # the second token begins before the cut
        ([0, 4, 8], [2, 2, 4, 0], [0, 2]),  # EOS
        ([0, 4, 8], [2, 6, 0, 0], [0]),  # no token begins in the second step, and EOS opens none
        ([0, 1, 2, 3, 8], [4, 4], [0, 1]),
        ([0, 4, 8], [4, 0, 4], [0, 1]),  # a token without text goes with the next character
        ([0, 4, 8], [2, 2], [0]),  # the second step has nothing but what its tokens leave unfinished
        ([0, 8], [0, 8], [0]),
        ([0], [0], [0]),  # nothing but EOS
        ([0], [], []),
    ],
)
def test_tokens_follow_their_first_character(boundaries: list[int], lengths: list[int], expected: list[int]) -> None:
    assert token_starts(boundaries, before(lengths), len(lengths)) == expected


def test_starts_are_what_looking_at_every_token_gives() -> None:
    for seed in range(500):
        draw = random.Random(seed)
        lengths = [*(draw.choice([0, 1, 1, 2, 3, 9]) for _ in range(draw.randrange(30))), draw.randint(1, 3), 0]
        total = sum(lengths)
        boundaries = sorted({0, total, *(draw.randrange(total) for _ in range(draw.randrange(12)))})
        owners = [bisect_right(boundaries, place) - 1 for place in accumulate(lengths[:-2], initial=0)]
        owners.append(owners[-1])  # EOS
        expected = [n for n, owner in enumerate(owners) if n == 0 or owner != owners[n - 1]]
        assert token_starts(boundaries, before(lengths), len(lengths)) == expected


def test_few_decodings_are_needed() -> None:
    calls: list[int] = []

    def chars_before(n: int) -> int:
        calls.append(n)
        return 4 * n

    starts = token_starts([0, 100, 2000, 30_000, 40_000], chars_before, 10_000)
    assert starts == [0, 25, 500, 7500]
    assert len(calls) <= 3 * 15  # 2^14 > 10 000, and one more to see that the step has the token
