"""Formulas are compared by their meaning, and none of them keeps the run waiting."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from align.rewards.base import Sample
from align.rewards.math.formulas import equivalent, tame
from align.rewards.pool import Pool, Verdict

SECONDS = 10.0  # what is let through by mistake takes minutes, or for ever
LONG = 50_000
ENDLESS = (
    *("1e30000000", "1e4000000", "9^{9^{9}}", "9^{9^{9^{9}}}", "9^9^9", "9**9**9", "2^{99999999}", "9^{9!}", "9^{99}!"),
    *(r"((9^{999})^{999})^{999}", r"\left(9^{999}\right)^{999^9}", r"\sqrt[0.0001]{\sqrt[0.0001]{9}}"),
    *("10000!", "((3!)!)!", r"\binom{1000000}{500000}", r"\binom{\binom{99}{50}}{500}", r"\Gamma(9999999)"),
    *(r"\exp(\exp(\exp(99)))", r"\sin(e^{e^{99}})", r"\lfloor\exp(999999999)\rfloor", r"e^{\pi^{99^9}}"),
    *(r"\int_0^1 e^{x^2} \sin(x^3) dx", r"\sum_{n=1}^{10000000} \frac{1}{n}", r"\prod_{n=1}^{9999999} n"),
    *("(a+b+c+d+e+f)^{10}", "(x+1)^{999}", r"\sin^{99}(99x)\cos^{99}(98x)", "|x" * 90, "12:30" * 30),
    *("(" * 40 + "1" + ")" * 40, "{" * 40 + "1" + "}" * 40, r"\frac{1}{1+" * 15 + "2" + "}" * 15),
    r"\begin{pmatrix}x&2&y\\3&y&x\\1&x&9\end{pmatrix}^{20}",
)
WIDE = {
    "digits": "9" * LONG,
    "power of ten": "1e" + "9" * LONG,
    "sum": "1+" * LONG + "1",
    "blanks": "5" + " " * LONG + "x",
    "braces": "{" * LONG + "}" * LONG,
    "words": "5 (" + "ab " * LONG,
}


@pytest.fixture(scope="module", params=[True, False], ids=["symbolic", "text"])
def pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    made = Pool("math_answer", {"symbolic": request.param}, timeout=SECONDS, num_workers=1)
    yield made
    made.close()


def sample(text: str, gold: str) -> Sample:
    return Sample(prompt="", completion=text, completion_ids=[1], columns={"answer": gold})


@pytest.mark.parametrize("gold", ["5", "1+x"])
def test_what_would_be_computed_for_ever_is_wrong_at_once(gold: str, pool: Pool):
    boxed = [sample(rf"\boxed{{{formula}}}", gold) for formula in (*ENDLESS, *WIDE.values())]
    assert pool.judge(boxed) == [Verdict(0.0)] * len(boxed)


@pytest.mark.parametrize("begun", ["answer is", "The answer is 5", "#### 5", "<answer>x", r"\boxed{", "</think>"])
@pytest.mark.parametrize("rest", ["\n", " ", "!", "a", "*a ", "1,", "111 ", "or ", "answer is "], ids=repr)
def test_long_texts_are_read_in_time(begun: str, rest: str, pool: Pool):
    (found,) = pool.judge([sample(begun + rest * LONG, "7")])
    assert found == Verdict(0.0)


@pytest.mark.parametrize(
    ("said", "right"),
    [
        ("e^{-x^2}", "e^{-x^2} + 0"),
        ("(x+1)^2(x-2)^3", "(x-2)^3(1+x)^2"),
        (r"\frac{10!}{3!7!}", "120"),
        (r"\binom{10}{3}", "120"),
        (r"1.5 \times 10^{3}", "1500"),
        (r"\left(\frac{1}{2}\right)^{100}", "2^{-100}"),
        (r"\sqrt[3]{8}", "2"),
        (r"\sin^2(x)+\cos^2(x)", "1 + 0"),
        ("y = 2x + 1", "y = 1 + 2x"),
        (r"\exp(x)", "e^x"),
    ],
)
def test_what_people_answer_is_compared(said: str, right: str):
    assert tame(said)
    assert equivalent(said, right)
