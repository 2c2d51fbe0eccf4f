"""Where in a text its answer stands. None where it is not there: that is counted, and never taken for an answer.

A strict extractor wants the form that the prompt asks for; a flexible one takes what a reader would take. Both are
reported, since their difference is a model's manners and not its knowledge.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from align.rewards.math.answers import final_answer, last_boxed, typed
from align_eval.tasks.task import Extractor

SAID = re.compile(r"answer\s*(?:is\b|:)\s*:?\s*", re.IGNORECASE)
FENCE = re.compile(r"^[ \t]*```[^\n`]*\n(.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)
THOUGHT = "</think>"  # what comes before it does not count


def extract(how: Extractor, text: str) -> str | None:
    """The answer, or None where the extractor finds none."""
    found = WAYS[how.by](how, text.rpartition(THOUGHT)[2])
    if found is None or how.by == "code":
        return found
    return found.strip() or None


def _after(how: Extractor, text: str) -> str | None:
    """The rest of the line after the last marker, without a full stop."""
    _, marker, rest = text.rpartition(how.marker)
    lines = rest.strip().splitlines()
    return _unstopped(lines[0]) if marker and lines else None


def _boxed(how: Extractor, text: str) -> str | None:
    return last_boxed(text)


def _final_answer(how: Extractor, text: str) -> str | None:
    """As the reward `math_answer` finds it."""
    return final_answer(typed(text))


def _letter(how: Extractor, text: str) -> str | None:
    """A letter after the last "answer is", else the last in brackets, else the last that stands alone."""
    one = rf"([{re.escape(how.letters)}])"
    for found in reversed(list(SAID.finditer(text))):
        if said := re.match(rf"[*_`$\s]*\(?{one}(?![A-Za-z'])", text[found.end() :]):
            return said[1]
    bare = rf"(?<![A-Za-z'\d]){one}(?![A-Za-z'\d])"
    alone = re.findall(rf"\({one}\)", text) or re.findall(bare, _without_article(text))
    return alone[-1] if alone else None


def _without_article(text: str) -> str:
    """An A before a word is one, and not a letter that was chosen."""
    return re.sub(r"\bA(?= [a-z])", "", text)


def _last_line(how: Extractor, text: str) -> str | None:
    """After the last "answer is", else the last line that holds more than blanks."""
    said = [text[found.end() :].strip() for found in SAID.finditer(text)]
    spoken = next((rest for rest in reversed(said) if rest), "")
    if spoken:
        return _unstopped(spoken.splitlines()[0])
    lines = [line for line in text.splitlines() if line.strip()]
    return _unstopped(lines[-1]) if lines else None


def _whole(how: Extractor, text: str) -> str | None:
    return text


def _pattern(how: Extractor, text: str) -> str | None:
    """The first group of the last match; the match itself where the pattern has no group."""
    found = list(re.finditer(how.pattern, text, re.MULTILINE))
    if not found:
        return None
    return found[-1][1] if found[-1].re.groups else found[-1][0]


def _code(how: Extractor, text: str) -> str | None:
    """The longest fenced block of code, else all that was written; indentation at its beginning is kept."""
    blocks = FENCE.findall(text)
    found = max(blocks, key=len) if blocks else text
    return found if found.strip() else None


def _unstopped(line: str) -> str:
    line = line.strip().strip("*_`$").strip()
    return line[:-1] if line.endswith(".") and not line.endswith("..") else line


WAYS: dict[str, Callable[[Extractor, str], str | None]] = {
    "after": _after,
    "boxed": _boxed,
    "final_answer": _final_answer,
    "letter": _letter,
    "last_line": _last_line,
    "whole": _whole,
    "pattern": _pattern,
    "code": _code,
}
