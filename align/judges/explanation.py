"""Whether a verdict contradicts what the judge says before it.

Only plain conclusions are looked at: "Assistant B is better", "a score of 7 out of 10". What one sentence says of both
answers, or denies, is not. So few contradictions are found that are none, and some that are stay unseen.
"""

from __future__ import annotations

import re

from align.judges.quoted import quotations

NOUN = r"(?:assistant|answer|response|model|output)"
SIDE = rf"{NOUN}\s+\(?(?P<side>[ab12])\)?(?:'s\s+(?:answer|response|output))?"
HOW = r"(?:\s+(?:clearly|overall|slightly|much|far|significantly|therefore|thus|generally|the|a|an|definitely))*"
BETTER = r"(?:better|superior|stronger|preferable|best|winner)"
CLAIMS = (
    re.compile(rf"\b{SIDE}\s+(?:is|was){HOW}\s+{BETTER}\b", re.IGNORECASE),
    re.compile(rf"\b{SIDE}\s+wins\b", re.IGNORECASE),
    re.compile(rf"\bprefer\s+{SIDE}(?!\w)", re.IGNORECASE),
)
DENIED = re.compile(r"\b(?:not|neither|if|would|could|might|unless|although|though|while)\b|n't\b", re.IGNORECASE)
GRADED = re.compile(
    r"\b(?:rate|rating|score|grade|deserves|give)\b[^.\n]{0,40}?"
    r"(?P<grade>\d+(?:\.\d+)?)\s*(?:/|out of)\s*(?P<of>\d+(?:\.\d+)?)\b",
    re.IGNORECASE,
)
FIRST = ("a", "1")


def contradiction(explanation: str, value: float, *, pairwise: bool, high: float = 10.0) -> str:
    """What the last conclusion says where it is not what the verdict says; empty where there is none. `high`: the best
    grade, by which grades are told from other shares."""
    text = _unquoted(explanation)
    found = _preferred(text) if pairwise else _grade(text, high)
    if found is None or found == value:
        return ""
    said = f"that the {'first' if found else 'second'} is better" if pairwise else f"{found:g}"
    return f"contradicts its explanation, which says {said}"


def _unquoted(text: str) -> str:
    for start, end in sorted(quotations(text), reverse=True):
        text = text[:start] + " " * (end - start) + text[end:]
    return text


def _preferred(text: str) -> float | None:
    """By the last sentence that says it of one side alone."""
    for sentence in reversed(re.split(r"(?<=[.!?])\s+|\n+", text)):
        sides = {m["side"].lower() for claim in CLAIMS for m in claim.finditer(sentence)}
        if len(sides) == 1 and not DENIED.search(sentence):
            return float(sides.pop() in FIRST)
    return None


def _grade(text: str, high: float) -> float | None:
    grades = [float(m["grade"]) for m in GRADED.finditer(text) if float(m["of"]) == high]
    return grades[-1] if grades else None
