r"""1 where a completion's final answer is the right one, 0 where it is not or there is none.

The answer is what stands in the last \boxed{...}, else after the last `####`, else after the last "answer is" or
"answer:", else the last number. It is right when it reads the same, is the same number, or (`symbolic`) is the same
expression to math-verify: 1/2 and 0.5, x + 1 and 1 + x. Bold type is no part of an answer, and where the right one is a
number, nor is a unit: **72**, 72 dollars. 25% is right for 0.25, and for the 25 of a question after per cent. The right
answer is a column of the data; of GSM8K's, what follows `####`.
"""

from __future__ import annotations

import importlib.util
import logging
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from align.rewards.base import Text, text_of

NUMBER = re.compile(r"(?:(?<![\w)])-)?\$?\d[\d,]*(?:\.\d+)?(?:/\d+)?%?")  # 5 - 3 and 5-3 have no -3 in them
UNIT = re.compile(r"(.*\d%?)\s*([a-z]{2}[a-z .]*)", re.IGNORECASE)  # 72 dollars, 5 km
FACTOR = re.compile(
    r"\b(?:pi|sqrt|sin|cos|tan|log|ln|exp|mod|or|and|to|dozen|hundred|thousand|million|billion|percent)\b",
    re.IGNORECASE,
)  # what is no unit, but changes the number before it
SAID = re.compile(r"answer\s*(?:is|:|=)\s*:?\s*(.+)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Reward:
    column: str = "answer"  # of the data: the right answer
    symbolic: bool = True  # by math-verify, where text and number do not settle it

    def __post_init__(self):
        if self.symbolic and importlib.util.find_spec("math_verify") is None:
            raise ValueError("math-verify is not installed: pip install 'align-hub[eval]', or set symbolic: false")

    def __call__(self, prompts: list[Text], completions: list[Text], **columns: Any) -> list[float | None]:
        if self.column not in columns:
            raise ValueError(f"the data has no column {self.column}; it has {', '.join(columns) or 'none'}")
        return [self._one(text_of(c), gold) for c, gold in zip(completions, columns[self.column], strict=True)]

    def _one(self, text: str, gold: Any) -> float | None:
        if gold is None or not str(gold).strip():
            return None  # without a right answer there is nothing to judge
        right, said = reference(str(gold)), final_answer(_typed(text))
        if said is None:
            return 0.0
        if number(right) is not None:
            said = without_unit(said)
        if same(said, right):
            return 1.0
        return float(self.symbolic and not both_numbers(said, right) and equivalent(said, right))


def reference(gold: str) -> str:
    """The right answer of a data row: after `####` where that is there."""
    return gold.rpartition("####")[2].strip()


def final_answer(text: str) -> str | None:
    """What a completion says at its end; None where that is no answer."""
    if (box := last_boxed(text)) is not None:
        return box.strip()
    if "####" in text:
        after = text.rpartition("####")[2].strip()
        return after.splitlines()[0].strip() if after else None
    if said := SAID.findall(text):
        first = said[-1].splitlines()[0].strip().rstrip(".")
        wordy = re.search(r"[a-z]{2}", first, re.IGNORECASE) and "\\" not in first  # `18 dollars a day`, no formula
        return numbers[0] if wordy and (numbers := NUMBER.findall(first)) else first
    numbers = NUMBER.findall(text)
    return numbers[-1] if numbers else None


def last_boxed(text: str) -> str | None:
    r"""The contents of the last \boxed{...}, its braces balanced; None where there is none, or it is cut off."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    depth = 0
    for i in range(start + len("\\boxed"), len(text)):
        depth += (text[i] == "{") - (text[i] == "}")
        if depth == 0:
            return text[start + len("\\boxed{") : i]
    return None


def same(said: str, right: str) -> bool:
    one, other = number(said), number(right)
    if one is None or other is None:
        return plain(said) == plain(right)
    in_points = plain(said).endswith("%") and not plain(right).endswith("%") and abs(other) >= 1
    return other in ((one, one * 100) if in_points else (one,))


def without_unit(said: str) -> str:
    """`72 dollars` as `72`; what is no number with words after it stays as it is."""
    found = UNIT.fullmatch(said.strip().rstrip("."))
    return found[1] if found and number(found[1]) is not None and not FACTOR.search(found[2]) else said


def _typed(text: str) -> str:
    """With the keyboard's minus, and without Markdown's bold type."""
    return re.sub(r"(?<!\w)\*\*|\*\*(?!\w)", "", text.replace("\u2212", "-"))  # 2**3 stays


def both_numbers(said: str, right: str) -> bool:
    return number(said) is not None and number(right) is not None


def number(text: str) -> Fraction | None:
    """Of `$1,080.50`, `3/4`, `25%` (a quarter), `.5`; None for anything else."""
    text = plain(text)
    share = text.endswith("%")
    try:
        return Fraction(text.rstrip("%")) / (100 if share else 1)
    except (ValueError, ZeroDivisionError):
        return None


def plain(text: str) -> str:
    """Without what only decorates: dollar signs, thousands' commas, white space, a full stop."""
    text = re.sub(r"(?<=\d),(?=\d{3})", "", text)
    return re.sub(r"\\[,!;% ]|[\s$]", "", text).rstrip(".").lower()


def equivalent(said: str, right: str) -> bool:
    """By math-verify, without its own alarms: whoever wants a limit sets reward.timeout."""
    from math_verify import parse, verify

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns of every limit that is not its own
    options: dict[str, Any] = {"parsing_timeout": None, "raise_on_error": False}
    one, other = (parse(f"${text.strip('$')}$", **options) for text in (said, right))
    return bool(one and other and verify(other, one, timeout_seconds=None, raise_on_error=False))
