r"""Numbers as people and models write them: $1,080.50, 12 000, 3/4, 2 1/2, \frac{3}{4}, 25%, 5 million, 72 dollars."""

from __future__ import annotations

import re
from fractions import Fraction

SCALES = {"dozen": 12, "hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
NAMED = "|".join(SCALES)
PERCENT = r"percent|per\s?cent"
SCALE = rf"(?:(?:{NAMED})s?|{PERCENT})\b"
MONEY = "$€£¥₹"
GROUPED = r"\d{1,3}(?:[ \u00a0\u202f]\d{3})+(?![\d/])"  # 12 000; what follows in 2 100/300 is a fraction
NUMBER = re.compile(
    rf"(?:(?<![\w)])-)?[{MONEY}]?"  # 5 - 3 and 5-3 have no -3 in them
    r"(?:\d+ \d+/\d+"  # 2 1/2
    r"|\d*\\[dt]?frac\{\d+\}\{\d+\}"
    rf"|{GROUPED}(?:\.\d+)?"
    r"|\d+(?:,\d+)*(?:\.\d+)?(?:/\d+)?"
    r"|(?<![\w.])\.\d+)"
    rf"(?:\\?%|\s*{SCALE})?",
    re.IGNORECASE,
)
FIGURE = re.compile(
    r"([-+]?)(?:(\d+) (?=\d+/))?"  # the 2 of 2 1/2
    r"(\d+/\d+|(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d{1,3})?)"  # three digits: the power is computed
    rf"(?:(%|{NAMED})s?)?"
)
FRACTION = re.compile(r"\\[dt]?frac(?:\{(-?\d+)\}|(\d))(?:\{(\d+)\}|(\d))")
UNIT = re.compile(rf"(.*[\d}}]%?(?:\s*{SCALE})?)\s*([a-z]{{2}}[a-z .]*)", re.IGNORECASE)  # 72 dollars, 5 km
FACTOR = re.compile(
    rf"\b(?:pi|sqrt|sin|cos|tan|log|ln|exp|mod|or|and|to|{SCALE})\b", re.IGNORECASE
)  # what is no unit, but changes the number before it
REMARK = re.compile(r"(?<=\S)\s*\([^()]*[a-z]{2}[^()]*\)", re.IGNORECASE)  # 18 (eggs)
SEVERAL = re.compile(r"[<>!]=|[,;]\s|\b(?:or|and)\b", re.IGNORECASE)  # x = 3 or x = 5
LONGEST = 300  # characters; what is longer is no number with its unit


def bare(text: str) -> str:
    """Without what only decorates: the marks of formulas and of emphasis, money, narrow spaces."""
    text = re.sub(r"\\(?:text|textbf|textit|mathrm|mathbf|mbox)\{([^{}]*)\}", r" \1 ", text)
    text = re.sub(rf"\\[()\[\]!]|\\?[{MONEY}]", "", text).replace("{,}", ",").replace("\\%", "%")
    return re.sub(r"\\[,;:> ]|~|\s", " ", text).strip(" *_`")


def plain(text: str) -> str:
    """For comparison: also without thousands' commas, a full stop, and blanks but those that keep digits apart."""
    text = re.sub(r" +", " ", re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", bare(text)))
    text = re.sub(rf"(?<![\d.,/]){GROUPED}", lambda found: found[0].replace(" ", ""), text)
    text = re.sub(r"(?<!\d) | (?!\d)", "", text).rstrip(".").lower()
    return re.sub(rf"(?<=\d)(?:{PERCENT})$", "%", text)


def number(text: str) -> Fraction | None:
    """Of `$1,080.50`, `3/4`, `2 1/2`, `25%` (a quarter), `5 million`, `.5`; None for anything else."""
    text = plain(text)
    if bracketed := re.fullmatch(r"\(([^()]*)\)|\{([^{}]*)\}", text):
        text = bracketed[1] or bracketed[2] or ""
    text = FRACTION.sub(lambda f: f" {f[1] or f[2]}/{f[3] or f[4]}", text)
    found = FIGURE.fullmatch(re.sub(r"(?<!\d) ", "", text))
    if not found:
        return None
    sign, whole, rest, scale = found.groups()
    try:
        value = int(whole or 0) + Fraction(rest)
    except (ValueError, ZeroDivisionError):  # Python reads no integer of more than 4300 digits
        return None
    return (-value if sign == "-" else value) * (SCALES | {"%": Fraction(1, 100)}).get(scale, 1)


def same(said: str, right: str) -> bool:
    """Whether they read the same or are the same number; 25% is also the 25 of a question after per cent."""
    one, other = number(said), number(right)
    if one is None or other is None:
        return plain(said) == plain(right)
    in_points = plain(said).endswith("%") and not plain(right).endswith("%") and abs(other) >= 1
    return other in ((one, one * 100) if in_points else (one,))


def both_numbers(said: str, right: str) -> bool:
    return number(said) is not None and number(right) is not None


def measured(said: str) -> str:
    """The number in `72 dollars`, `18 (eggs)`, `20 - 2 = 18`; what holds no single number stays as it is."""
    if len(said) > LONGEST:
        return said
    text = bare(said).rstrip(". ")
    if remark := REMARK.search(text):
        text = text[: remark.start()] if remark.end() == len(text) else text
    if "=" in text and not SEVERAL.search(text):
        text = text.rpartition("=")[2].strip()
    if (unit := UNIT.fullmatch(text)) and not FACTOR.search(unit[2]):
        text = unit[1]
    return said if number(text) is None else text
