r"""The rule for MATH, one part of it after the other. Every text was divided by hand from the rule in words; a comment
counts the characters where they matter (20 are enough for a step, 100 are not too many)."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest

from align.rollout.steps_math import find_formulas, math


def steps(text: str) -> list[str]:
    return [text[begin:end] for begin, end in pairwise(math(text))]


X, Y = "x" * 50, "y" * 50

SENTENCES = [
    # behind a period before white space and a capital letter; the white space goes with the next sentence
    ["We are given two numbers.", " Their sum is seven here."],
    ["We are given two numbers. their sum is seven here."],
    ["We are given two numbers.Their sum is seven here."],
    ["We are given 2.5 and 3.5.", " Their sum is six, then."],
    # a word of one or two letters keeps its period
    ["This was shown by Dr. Euler in a long letter."],
    ["We take a small number, e.g. Three or Four of all."],
    ["The length of it is 8 cm. The width is not given."],
    ["Everything is known (cf. Euler) of such numbers."],
    ["The name of the number is Bob.", " The name is a short one."],
    ["We look at the $n$th.", " Then we look at the last one."],  # which "th" is not
    # before every newline
    ["The first line of a few words", "\nThe second line of few words"],
    ["The first line is one sentence.", "\nThe second line of few words"],
    ["The first line of a few words", "\n\n\nThe second line of few words"],
]
HIDDEN = [
    # periods, newlines and capital letters in formulas cut nothing
    ["The function is $f(AAA. B)=CCC. D$ here", "\nand it has no zero at all"],
    ["We write $aaa$ for the first.", " We write \\(bbb. C\\) for the other."],
    ["Now $\\begin{tabular}{c} $abc. A$ \\end{tabular}$ is the table", "\nthat we were looking for."],
    ["Now $\\begin{tabular}{c} abc. A \\end{tabular}=2$ is the table", "\nthat we were looking for."],
    ["The price of it is \\$5 now.", " The other price is \\$6 now."],  # escaped dollars are money
    ["There is no end to $this one.", " It is never closed again."],
    # a formula that ends with a period ends a step, of whatever length
    ["We have $a=1.$", " so that it is known"],  # 14, 20
    ["We have $$a=1.$$", " so that it is known"],
    ["We have \\(a=1.\\)", " so that it is known"],
    ["We have \\[a=1.\\]", "\nso that it is known"],
    ["We have $a=1$. so that it is known"],
]
SHORT = [
    ["The answer is known.", " It is the number seven"],  # 20
    ["The answer is here. It is the number seven"],  # 19
    ["Therefore\nthe answer is seven"],
    ["So $x=3$\nis the number that we sought"],  # a formula counts as what it is, here 5
    ["\\begin{cases}a\\end{cases}", "\nis the number that we sought"],  # 25
    ["The answer is here.\nNow\nthe answer is seven"],  # first "Now" joins the next line, then the 19 do
    ["The answer is here.\nSo $x=3$", "\nthe answer is seven"],  # no such line where it has a formula: 19 + 9, 20
    ["The answer is the number seven.\nYes"],  # the last part joins the one before
]
LINES_OF_FORMULAS = [
    ["\\[\nx = 1", "\n\\]"],  # a bare opening joins the next line
    ["[asy]\ndraw(a);", "\n[/asy]"],
    ["\\begin{align*}\n\na", "\n\\end{align*}"],  # and a lone newline
    ["\\(a", "\n+\nb\\)"],  # and less than 3 characters
    ["$\na=b\n$"],  # the last line, if so, joins the one before
    ["$$\na=b\n$$"],
]
LONG_TEXT = [
    [f"{X},{Y[1:]}"],  # 100
    [f"{X},", f"{Y}"],  # 101
    [f"{X}xxxxx,", f"{X}xxxxx,", f"{Y},", f"{Y}yyyyy"],  # and the halves again
    ["x" * 45 + "," + "x" * 20 + ",", Y],  # 17 from the middle, not 25
    [f"{X} and", f" {Y}"],
    [f"{X}:", Y],
    [f"{X} to", f" {Y}"],
    [f"{X}sand {Y}"],  # no "and" by itself
    ["x" * 42 + ",", f"{X[:10]} and {Y}"],  # a comma before an "and", though this is nearer to the middle
    ["x" * 10 + "," + "x" * 45 + " and", f" {Y}"],  # but not with 11 characters on its left
    ["x" * 39 + ",", "y" * 61],  # 40
    ["x" * 38 + "," + "y" * 62],  # 39
    [f"{X[:30]} $a,b$ {Y}{Y}"],  # nor in a formula
]
LONG_FORMULAS = [
    [f"${X}=", f"{Y}$"],
    [f"${X}\\equiv", f"{Y}$"],
    [f"${X}+", f"{Y}$"],
    [f"${X}\\cancelto", f"{Y}$"],
    [f"{X}=", Y],  # also where nothing says that it is a formula
    ["$" + "a" * 18 + "=", "b" * 99 + "$"],  # 20
    ["$" + "a" * 17 + "=" + "b" * 99 + "$"],  # 19
    ["a" * 30 + "=", "b" * 30 + "+" + Y],  # "=" before "+", though this is nearer to the middle
    [f"{X} $a,$", f"{Y[:20]}={Y[:30]}"],  # ",$" before "="
    [f"{X} $$a,$$", Y],
    [f"{X} \\(a,\\)", Y],
    [f"{X} \\[a,\\]", Y],
    ["x" * 25 + ",$a$" + "y" * 80],  # this dollar opens
]


@pytest.mark.parametrize(
    "expected", [*SENTENCES, *HIDDEN, *SHORT, *LINES_OF_FORMULAS, *LONG_TEXT, *LONG_FORMULAS], ids=lambda e: "|".join(e)
)
def test_divided_by_hand(expected: list[str]) -> None:
    assert steps("".join(expected)) == expected


def test_text_and_formula_are_halved_by_their_own_marks() -> None:
    formula = "\\[\np=" + "q" * 60 + "," + "r" * 60 + "\n\\]"
    assert steps(f"It is given as follows here:\n{formula}") == [
        "It is given as follows here:",
        "\n\\[\np=" + "q" * 60 + "," + "r" * 60,  # 128 long: its comma is no mark, and its "=" has 6 on its left
        "\n\\]",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$a$ and \\(b\\), \\[c\\], $$d$$", ["$a$", "\\(b\\)", "\\[c\\]", "$$d$$"]),
        ("\\begin{a*}$x$\\begin{b}y\\end{b}\\end{a*}", ["\\begin{a*}$x$\\begin{b}y\\end{b}\\end{a*}"]),
        ("\\begin{a}x\\end{b}", []),
        ("a \\\\[2pt] b \\[c\\]", ["\\[c\\]"]),  # the space of a line break
        ("\\(a $b$", ["$b$"]),  # what never closes does not hide what does
        ("$a\\$b$", ["$a\\$b$"]),
        ("[asy]$[/asy]$a$", ["[asy]$[/asy]", "$a$"]),
    ],
)
def test_formulas_are_found(text: str, expected: list[str]) -> None:
    assert [text[begin:end] for begin, end in find_formulas(text)] == expected


@pytest.mark.parametrize("scrap", ["\\(", "\\begin{a}", "$a=1.$"])
def test_long_texts_cost_little(scrap: str) -> None:
    """About a second; many times as much if every opening looked for its closing up to the end of the text."""
    text = scrap * (400_000 // len(scrap))
    began = time.process_time()
    assert math(text)[-1] == len(text)
    assert time.process_time() - began < 15
