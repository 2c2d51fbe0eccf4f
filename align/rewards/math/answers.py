"""Where in a completion its final answer stands."""

from __future__ import annotations

import re

from align.rewards.math.numerals import FACTOR, NUMBER, bare, measured, number

SAID = re.compile(r"answer\s*+(?:is\b|:|=)\s*+:?\s*+", re.IGNORECASE)
LINK = re.compile(r"=|\b(?:is|are|equals|makes|gives|namely|but)\b", re.IGNORECASE)  # what stands before a result
JOINED = re.compile(
    r"(?:,?\s+[a-z]+\b){0,2}?,?\s*"
    r"(?:[-+*/^\u00d7\u00f7]|\\(?:times|cdot|div)\b|\b(?:or|and|to|plus|minus|times|(?:divided|multiplied)\sby"
    r"|(?:less|more|fewer)\sthan)\b)\s*(?:[a-z]+\s+){0,2}[($\\]*\d",
    re.IGNORECASE,
)  # behind a number that is not the answer alone: 5 or 18, 20 - 2, 5 less than 23
NAMES = re.compile(r"\\(?:begin|end|operatorname|mathbb|mathcal)\*?\{[^{}]*\}|\\[a-z]+", re.IGNORECASE)
WORD = re.compile(r"\b(?:[a-z]{3,}|of|is|in|so|we|he|it|at|by|on|no|as|an|if|be|my)\b", re.IGNORECASE)
EMPHASIS = re.compile(r"(?<![\w)*_`])([*_`])(?=\S)([^\n*_`]{1,200})(?<=\S)\1(?![\w*_`])")


def typed(text: str) -> str:
    """With the keyboard's minus, and without Markdown's emphasis."""
    text = re.sub(r"(?<!\w)\*\*|\*\*(?!\w)", "", text.replace("\u2212", "-"))  # 2**3 stays
    return EMPHASIS.sub(r"\2", text)


def reference(gold: str) -> str:
    """The right answer of a data row: after `####` where that is there."""
    return gold.rpartition("####")[2].strip()


def final_answer(text: str) -> str | None:
    """What a completion says at its end; None where that is no answer."""
    _, tag, after = text.rpartition("<answer>")
    spoken = after.partition("</answer>")[0].strip() if tag else after.rpartition("</think>")[2]
    if (marked := _marked(spoken)) is not None:
        return marked or None
    if not tag:
        return _last_number(spoken)
    if stands_alone(spoken):
        return spoken
    begun = stated(spoken) if NUMBER.match(bare(spoken)) else None
    return begun or _last_number(spoken) or spoken or None


def stands_alone(text: str) -> bool:
    """Whether it is a number, with or without its unit, or a formula: an answer without words around it."""
    if number(measured(text)) is not None:
        return True
    letters = FACTOR.sub(" ", NAMES.sub(" ", bare(text)))
    return re.search(r"\w", text) is not None and not WORD.search(letters)


def _marked(text: str) -> str | None:
    r"""In \boxed{...}, after `####`, after "answer is"; "" where it is cut off, None where nothing is marked."""
    if (box := last_boxed(text)) is not None:
        return box.strip()
    if (headed := _headed(text)) is not None:
        return headed
    for found in reversed(list(SAID.finditer(text))):
        if line := _first_line(text[found.end() :]):
            return stated(line)
    return None


def _headed(text: str) -> str | None:
    """After the last `####`; None where that begins a heading, which holds no answer or has text below it."""
    _, hashes, after = text.rpartition("####")
    after = after.strip()
    line = after.splitlines()[0].strip() if after else ""
    if not hashes or (line and not stands_alone(line) and (line != after or re.search(r"\d", line))):
        return None
    return line


def _first_line(text: str) -> str:
    """The first line that holds more than signs."""
    return next((line for line in text.splitlines() if re.search(r"\w", line)), "")


def stated(line: str) -> str:
    """The answer in what follows "answer is"; the line itself where that is no single number."""
    line = line.strip().rstrip(".!")  # of words: 18! is no factorial
    if stands_alone(line):
        return line
    words = bare(line)
    if NUMBER.match(words) and (begun := _single(words)):
        return begun
    parts = [] if "\\" in words else [part for part in LINK.split(words) if NUMBER.search(part)]
    return (_single(parts[-1]) if parts else None) or line


def _single(part: str) -> str | None:
    """The first number, unless another is joined to it."""
    found = NUMBER.search(part)
    return found[0] if found and not JOINED.match(part, found.end()) else None


def _last_number(text: str) -> str | None:
    numbers = NUMBER.findall(text)
    return numbers[-1] if numbers else None


def last_boxed(text: str) -> str | None:
    r"""The contents of the last \boxed{...}, its braces balanced; None where there is none, or it is cut off."""
    start = text.rfind("\\boxed{")
    return None if start < 0 else enclosed(text, start + len("\\boxed"))


def enclosed(text: str, start: int) -> str | None:
    """What stands between the bracket at `start` and its partner; None where that is missing."""
    opening, closing = text[start], {"{": "}", "(": ")"}[text[start]]
    depth = 0
    for i in range(start, len(text)):
        depth += (text[i] == opening) - (text[i] == closing)
        if depth == 0:
            return text[start + 1 : i]
    return None
