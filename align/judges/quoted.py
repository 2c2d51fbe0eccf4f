"""Which part of a judge's reply is not its own: what stands in quotation marks, code or block quotes, and what it has
copied out of an answer. A verdict there is the candidate's, or an example, and is never read as the judge's.

The last line of a reply is the judge's own even where an answer ends alike ("Final verdict: [[A]]"): otherwise a
candidate could make the verdicts against it unreadable by writing them itself. Only a long copy is none. Nor are
quotation marks a quotation there that hold what no answer has: some judges end with: I rate it as "Rating: [[8]]".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

QUOTES = (('"', '"'), ("\u201c", "\u201d"), ("\u00ab", "\u00bb"), ("\u201e", "\u201c"), ("`", "`"))
FENCE = re.compile(r"^[ \t]*(```|~~~).*?(?:^[ \t]*\1|\Z)", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^[ \t]*>.*$", re.MULTILINE)
THOUGHT = re.compile(r"<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
COPIED = 8  # characters before a verdict that an answer has, too, in the midst of a reply
COPIED_AT_END = 25  # and in its last line
Span = tuple[int, int]


def spoken(reply: str) -> str | None:
    """What is said aloud: without the thoughts of models that think first. None where it ends within them."""
    if re.match(r"\s*<think(?:ing)?>", reply, re.IGNORECASE) is None:
        closing = re.search(r"</think(?:ing)?>", reply, re.IGNORECASE)  # some templates open the thought in the prompt
        return reply[closing.end() :] if closing else reply
    rest = THOUGHT.sub("", reply, count=1)
    return None if rest == reply else rest


def quotations(text: str, *, code: bool = True) -> list[Span]:
    """Stretches between quotation marks of a paragraph, in code (unless `code` is False), and of block quotes."""
    found = [m.span() for m in BLOCK.finditer(text)]
    fences = [m.span() for m in FENCE.finditer(text)]
    for start, end in _paragraphs(text):
        for opening, closing in QUOTES if code else QUOTES[:-1]:
            found += _between(text, start, end, opening, closing)
    return found + fences if code else found


def _paragraphs(text: str) -> Iterator[Span]:
    start = 0
    for gap in re.finditer(r"\n\s*\n", text):
        yield start, gap.start()
        start = gap.end()
    yield start, len(text)


def _between(text: str, start: int, end: int, opening: str, closing: str) -> Iterator[Span]:
    at = start
    while (first := text.find(opening, at, end)) >= 0 and (last := text.find(closing, first + 1, end)) >= 0:
        yield first, last + 1
        at = last + 1


def is_quoted(text: str, span: Span, quotes: Sequence[Span], answers: Sequence[str]) -> bool:
    """Whether a verdict at `span` is no verdict of the judge's own."""
    mark = text[span[0] : span[1]]
    at_end = not text[span[1] :].partition("\n")[2].strip()
    if any(first <= span[0] and span[1] <= last for first, last in quotes):
        return not at_end or any(mark in answer for answer in answers)
    line = text[text.rfind("\n", 0, span[0]) + 1 : span[1]].lstrip()
    return any(_copied(line, mark, answer) >= (COPIED_AT_END if at_end else COPIED) for answer in answers)


def _copied(line: str, mark: str, answer: str) -> int:
    """How many characters before the mark, which ends `line`, stand before it in the answer, too."""
    longest = 0
    for place in re.finditer(re.escape(mark), answer):
        before = answer[: place.start()]
        count = 0
        own = line[: len(line) - len(mark)]
        while count < min(len(own), len(before)) and own[-1 - count] == before[-1 - count]:
            count += 1
        longest = max(longest, count)
    return longest
