"""Where `math_answer` finds an answer in a completion, and how it reads it."""

from __future__ import annotations

import pytest

from align.rewards.math.answers import final_answer
from align.rewards.math.math_answer import Reward

TAGS = [
    ("<think>The answer is 18.</think><answer>7</answer>", "18", 0),
    ("<think>So the answer is 16 - 7 = 9 eggs, times 2.</think>\n<answer>18</answer>", "18", 1),
    ("<think>...not 20 but 18.</think> <answer>18</answer>", "18", 1),
    (r"<think>\boxed{7}</think><answer>18</answer>", "18", 1),
    (r"<answer>\frac{3}{4}</answer>", "0.75", 1),
    ("<answer>18 (that is 9*2)</answer>", "18", 1),
    ("<answer>7</answer> no: <answer>18</answer>", "18", 1),
    ("18 it is: <answer>", "18", 0),
    ("<think>18</think><answer></answer>", "18", 0),
    ("<answer>18", "18", 1),
    ("<answer>$18 dollars, for 9 eggs</answer>", "18", 1),
    ("<answer>The answer is 18.</answer>", "18", 1),
    (r"<answer>\boxed{18}</answer>", "18", 1),
    ("<answer>so she has 18</answer>", "18", 1),
    ("<answer>5 or 18</answer>", "18", 0),
    ("<answer>Paris</answer>", "Paris", 1),
    ("<think>18</think> It is 20.", "18", 0),
    ("<think>The answer is 20.</think> It is 18.", "18", 1),
]
PERCENT = [
    (r"\boxed{25\%}", "0.25", 1),
    (r"\boxed{25\%}", "1/4", 1),
    (r"\boxed{25\%}", "25%", 1),
    (r"\boxed{25\%}", "25", 1),
    (r"\boxed{5}", r"5\%", 0),
    ("The answer is 25 percent.", "25%", 1),
]
BLANKS = [
    ("#### 2 1/2", "2.5", 1),
    ("#### 2 1/2", "5/2", 1),
    ("#### 2 1/2", "21/2", 0),
    ("She ran 2 1/2 miles.", "2.5", 1),
    (r"\boxed{-2\frac{1}{2}}", "-2.5", 1),
    ("#### 5 10", "510", 0),
    (r"\boxed{1 2}", "12", 0),
    ("#### 5_2", "52", 0),
    ("#### 5   10", "510", 0),
    ("#### 12 000", "12000", 1),
    ("In all there are 12 000 eggs.", "12000", 1),
    (r"\boxed{12\,000}", "12000", 1),
    (r"\boxed{12{,}000}", "12000", 1),
]
SAID = [
    ("The answer is 20 - 2 = 18 dollars.", "18", 1),
    ("the answer is the sum of 5 and 13, which is 18", "18", 1),
    ("the answer is the sum of 5 and 13, which is 18", "5", 0),
    ("the answer is 5 less than 23, which is 18", "18", 1),
    ("The answer is 5 or 18", "5", 0),
    ("The answer is 5 or 18", "18", 0),
    ("The answer is 5 dollars or 18 dollars", "5", 0),
    ("The answer is between 5 and 18", "5", 0),
    ("The answer is not 5 but 18.", "18", 1),
    ("The answer is 5 million", "5000000", 1),
    ("The answer is 5 million", "5", 0),
    ("The answer is 5 million dollars.", "5,000,000", 1),
    ("It is 5 million.", "5", 0),
    ("The answer is 18 eggs in 2 baskets.", "18", 1),
    ("The answer is 18. That is 2 a day for 9 days.", "18", 1),
    ("The answer is 18, because 20 - 2 = 18.", "18", 1),
    ("The answer is 5. No, the answer is 18.", "18", 1),
    (r"The answer is \(18\) dollars because \(9 \times 2 = 18\).", "18", 1),
    ("The answer is:\n\\[\n18\n\\]", "18", 1),
    ("answer: 18, as shown", "18", 1),
    ("The answer is 3!", "3", 1),
]
HEADINGS = [
    ("#### Step 2: conclude\nThe answer is 18.", "18", 1),
    ("#### Final Answer\n18", "18", 1),
    ("#### 2. Conclude\nSo it is 18.", "18", 1),
    ("#### Answer: 18", "18", 1),
    ("####\n18", "18", 1),
    ("#### yes", "yes", 1),
    ("#### 5 or 18", "18", 0),
    ("5 + 3 = 8\n####", "8", 0),
]
SIGNS = [
    *((f"#### {sign}", "18", 1) for sign in ("€18", "£18", "*18*", "_18_", "`18`", r"\[18\]", "18 (eggs)", r"\$18")),
    *((f"The answer is {sign}.", "18", 1) for sign in ("€18", "*18* dollars", "_18_", "`18`", r"\[18\]", "18!")),
    ("#### ($8)", "8", 1),
    (r"\boxed{($8)}", "8", 1),
    (r"\(\frac{3}{4}\) cups", "3/4", 1),
    (r"The answer is \(\frac{3}{4}\) cups.", "3/4", 1),
    (r"\boxed{\frac34 \text{ cups}}", "3/4", 1),
    ("So she paid .5", "0.5", 1),
    ("It is 18!", "18", 1),
    (r"\boxed{x = 18}", "18", 1),
    (r"\boxed{x = 3 or x = 18}", "18", 0),
]


@pytest.mark.parametrize("symbolic", [False, True], ids=["text", "symbolic"])
@pytest.mark.parametrize(("text", "gold", "value"), [*TAGS, *PERCENT, *BLANKS, *SAID, *HEADINGS, *SIGNS])
def test_what_a_completion_earns(text: str, gold: str, value: float, symbolic: bool):
    assert Reward(symbolic=symbolic)([], [text], answer=[gold]) == [value]


@pytest.mark.parametrize("factorial", [r"\boxed{3!}", "<answer>3!</answer>", "#### 3!"])
def test_a_formulas_factorial_stays_one(factorial: str):
    assert Reward()([], [factorial] * 2, answer=["6", "3"]) == [1, 0]


@pytest.mark.parametrize("text", ["", "####", "<answer></answer>", "<think>5</think>", r"\boxed{}"])
def test_no_answer(text: str):
    assert not final_answer(text)
