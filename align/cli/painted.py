"""Rows token by token, as a terminal and a pipe show them."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from align.data.text.describe import Seen
from align.system.terminal import visible

LEGEND = (
    "rows: prompt dim, learned tokens bold (or ^ below), others' tokens in the completion yellow (or .), "
    "special tokens reversed (or #)"
)
STYLES = {"prompt": "dim", "learned": "bold green", "context": "yellow"}
MARKS = {"prompt": " ", "learned": "^", "context": "."}  # under the tokens where there is no colour
SPECIAL_STYLE, SPECIAL_MARK = " reverse", "#"  # of special tokens, which a text with their names has not


def painted(seen: Sequence[Seen], *, coloured: bool) -> Text:
    parts = [(visible(token.text), token) for token in seen]  # here, so that the marks stand under it
    if coloured:
        return Text.assemble(*((text, STYLES[t.part] + SPECIAL_STYLE * t.special) for text, t in parts))
    line = "".join(text for text, _ in parts)
    marks = "".join((SPECIAL_MARK if t.special else MARKS[t.part]) * len(text) for text, t in parts)
    pairs = zip(line.split("\n"), _split_like(line, marks), strict=True)
    return Text("\n".join(f"{text}\n{mark.rstrip()}" for text, mark in pairs))


def _split_like(line: str, marks: str) -> list[str]:
    """`marks` cut where `line` has its line ends."""
    parts: list[str] = []
    start = 0
    for text in line.split("\n"):
        parts.append(marks[start : start + len(text)])
        start += len(text) + 1
    return parts
