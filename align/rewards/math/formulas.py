"""Whether two formulas mean the same, by math-verify; what could keep it busy for ever is not asked."""

from __future__ import annotations

import logging
import re
from typing import Any

from align.rewards.math.answers import NAMES, enclosed
from align.rewards.math.numerals import bare

LONGEST = 200  # characters
DEEPEST = 6  # brackets within brackets: its parser's time grows exponentially
BINOMIAL = re.compile(r"\\[dt]?binom\{\d{1,3}\}\{\d{1,3}\}")
HARD = re.compile(
    r"\\(?:i*int|oint|sum|prod|lim|Gamma|zeta)(?![a-z])|binom|choose"
    r"|\\sqrt\[(?!\d{1,2}\])"  # a root of order 0.001 is a power
    r"|\d{4}!|(?<![\da-z])!"  # 10000!, (3!)!
    r"|\\end\{[a-z]*\}\^"  # of a matrix
    r"|\d_"  # 101_2 would be read as 101
)
ANGLE = r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-z])"
CROWD = re.compile(rf"[|:]|\\(?:colon|mid|[lr]?vert|\|)|{ANGLE}")
GROUP = re.compile(rf"(?:[)\]}}|]|{ANGLE})$")  # (x + 1)^2, \sin^2 x: whose powers are expanded
TOKEN = re.compile(r"-?(?:\d+|\\?[a-z]+|.)", re.IGNORECASE)
TOWER = re.compile(r"!|\^.*\^|(?<![a-df-hj-z])\^", re.IGNORECASE)  # neither e, i nor \pi: these are numbers
EXTRA = 1  # letters that the right answer does not have: y = 2x + 1; several make expansions long
MOST = 1000  # a power of a power of numbers
EXPANDED = 20  # a power of a sum with letters, shared by all after the first
DEGREES = 60  # all exponents together, of several letters
CROWDED = 4  # absolute values, ratios and angles, whose simplification takes long when they are many


def equivalent(said: str, right: str) -> bool:
    """By math-verify, without its own alarms, which work in a main thread alone."""
    if not (tame(said) and tame(right)) or len(_letters(said) - _letters(right)) > EXTRA:
        return False
    from math_verify import parse, verify

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns of every limit that is not its own
    options: dict[str, Any] = {"parsing_timeout": None, "raise_on_error": False}
    one, other = (parse(f"${text.strip('$')}$", **options) for text in (said, right))
    return bool(one and other and verify(other, one, timeout_seconds=None, raise_on_error=False))


def tame(formula: str) -> bool:
    """Whether to compute with it takes a moment only."""
    if len(formula) > LONGEST or _depth(formula) > DEEPEST or len(CROWD.findall(formula)) > CROWDED:
        return False
    text = BINOMIAL.sub("1", re.sub(r"\s|\\left|\\right|\\[,;:!]", "", formula)).replace("**", "^")
    text = re.sub(r"\\?(?:exp|sinh|cosh|tanh)", "e^", text)
    return not HARD.search(text) and _powers_are_small(text)


def _letters(text: str) -> set[str]:
    return set(re.findall(r"[a-z]", NAMES.sub(" ", bare(text)), re.IGNORECASE))


def _depth(text: str) -> int:
    deepest = depth = 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        deepest = max(deepest, depth)
    return deepest


def _powers_are_small(text: str) -> bool:
    """No tower of powers but e^{x^2}, no exponent of more than three digits, no high power of a bracket."""
    num_letters = len(_letters(text))
    product, degrees = 1, 0
    for caret in re.finditer(r"\^", text):
        exponent, behind = _exponent(text, caret.end())
        digits = sum(character.isdigit() for character in exponent)
        if not exponent or behind in ("^", "!") or digits > 3 or TOWER.search(exponent):
            return False
        size = int(exponent) if exponent.isdecimal() else 10**digits
        degrees += size
        product *= size if GROUP.search(text, max(0, caret.start() - 5), caret.start()) else 1
    if num_letters > 1 and degrees > DEGREES:
        return False
    return product <= (EXPANDED // max(1, num_letters - 1) if num_letters else MOST)


def _exponent(text: str, start: int) -> tuple[str, str]:
    """What stands behind a ^, nothing where it is cut off, and the character after it."""
    if text[start : start + 1] in ("{", "("):
        exponent = enclosed(text, start) or ""
        end = start + len(exponent) + 2
    else:
        found = TOKEN.match(text, start)
        exponent = found[0] if found else ""
        end = start + len(exponent)
    return exponent, text[end : end + 1]
