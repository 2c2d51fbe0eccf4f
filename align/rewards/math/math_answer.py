r"""1 where a completion's final answer is the right one, 0 where it is not or there is none.

The answer is what stands in the last <answer>...</answer>. Where those are words, no number and no formula, and where
there are no tags, it is what stands in the last \boxed{...}, else after the last `####` if that is no heading, else
after the last "answer is" or "answer:", else the last number. Without tags, what comes before </think> does not count.

It is right when it reads the same, is the same number, or (`symbolic`) is the same expression to math-verify: 1/2 and
0.5, x + 1 and 1 + x. Emphasis is no part of an answer, and where the right one is a number, nor is a unit, a remark, or
the left side of an equation: **72**, 72 dollars, 72 (dollars), 8 * 9 = 72. 25% is right for 0.25, and for the 25 of a
question after per cent. Formulas whose computation could take for ever (towers of powers, integrals, more than 200
characters) are right only where they read the same. The right answer is a column of the data; of GSM8K's, what follows
`####`.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any

from align.rewards.base import Text, text_of
from align.rewards.columns import misfit
from align.rewards.math.answers import final_answer, reference, typed
from align.rewards.math.formulas import equivalent
from align.rewards.math.numerals import both_numbers, measured, number, same


@dataclass(frozen=True, kw_only=True)
class Reward:
    column: str = "answer"  # of the data: the right answer
    symbolic: bool = True  # by math-verify, where text and number do not settle it

    def __post_init__(self):
        if self.symbolic and importlib.util.find_spec("math_verify") is None:
            raise ValueError("math-verify is not installed: pip install 'align-hub[eval]', or set symbolic: false")

    @property
    def reads(self) -> dict[str, str]:
        return {"column": self.column}

    def warm(self) -> None:
        """What the first formula would pay for: the import of math-verify, and the tables of its parser."""
        if self.symbolic:
            equivalent("x + 1", "1 + x")

    def __call__(self, prompts: list[Text], completions: list[Text], **columns: Any) -> list[float | None]:
        if self.column not in columns:
            raise ValueError(misfit(self, columns, "the data"))
        return [self._one(text_of(c), gold) for c, gold in zip(completions, columns[self.column], strict=True)]

    def _one(self, text: str, gold: Any) -> float | None:
        if gold is None or not str(gold).strip():
            return None  # without a right answer there is nothing to judge
        said = final_answer(typed(text))
        return 0.0 if said is None else float(is_right(said, reference(str(gold)), symbolic=self.symbolic))


def is_right(said: str, right: str, *, symbolic: bool) -> bool:
    """Whether an answer that was found in a text is the right one. `symbolic` asks math-verify, too."""
    if number(right) is not None:
        said = measured(said)
    return same(said, right) or (symbolic and not both_numbers(said, right) and equivalent(said, right))
