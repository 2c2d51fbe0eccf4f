"""An extracted answer against the right one: as mathematics, or as text."""

from __future__ import annotations

import importlib.util
import re
from functools import cache

from align.rewards.math.math_answer import is_right

SYMBOLIC = "math_verify"  # the package by which formulas are compared


@cache
def symbolic() -> bool:
    """Whether formulas can be compared as such; without it they are right where they read the same."""
    return importlib.util.find_spec(SYMBOLIC) is not None


def same_mathematics(said: str, right: str) -> bool:
    """As the reward `math_answer` compares them."""
    return is_right(said, right, symbolic=symbolic())


def same_text(said: str, right: str) -> bool:
    """Without regard to case, blanks, brackets around a letter, and quotes around all of it."""
    return _plain(said) == _plain(right)


def _plain(text: str) -> str:
    text = re.sub(r"\s+", " ", text).strip().strip("\"'`*").rstrip(".").strip().casefold()
    return re.sub(r"^\(([a-z])\)$", r"\1", text)
