"""A completion cut into reasoning steps: where its text divides, and which token opens each step.

A segmenter reads a text and returns its boundaries in characters: 0, the beginning of every further step, and the
length of the text, strictly increasing. The empty text has no step; its boundaries are [0].

`newline` and `gsm8k` follow the code for GSM8K of VinePPO (Kazemnejad et al., arXiv:2410.01679), `math` the one for
MATH; what is ours: the first answer marker counts, where the authors' code fails on a second one, and a text of blank
lines is one step, where theirs has empty ones. A segmenter of the user's own is `package.module:function`.
"""

from __future__ import annotations

import operator
import reprlib
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from align.errors import RunError, UserError, did_you_mean
from align.outside import contained, drawing, load_outside, place_of, require_arguments
from align.rollout.steps_math import math

Segmenter = Callable[[str], Sequence[int]]

ANSWER = "\n#### "  # what stands before the final answer in GSM8K


def newline(text: str) -> list[int]:
    """Every line is a step, and the newline belongs to the line that it opens.

    Blank lines at the beginning join the first line that is not; a blank line elsewhere is a step.
    """
    first = len(text) - len(text.lstrip())  # the first character that is no white space
    return sorted({0, len(text), *(i for i in range(first, len(text)) if text[i] == "\n")})


def gsm8k(text: str) -> list[int]:
    """Lines, but the last one before the answer marker that is not blank, the marker and all that follows are one step.

    Without a marker it is `newline`; a marker with nothing before it makes the whole text one step.
    """
    marker = text.find(ANSWER)
    if marker < 0:
        return newline(text)
    worked = text[:marker].rstrip()
    starts = newline(worked)[:-1] or [0]
    return [*starts, len(text)]


SEGMENTERS: dict[str, Segmenter] = {"newline": newline, "gsm8k": gsm8k, "math": math}


def find_segmenter(name: str) -> Segmenter:
    """One of this package by its name, or `package.module:function`, whose answers are checked."""
    if ":" in name:
        found = load_outside("segmenter", name)
        require_arguments("segmenter", name, found, {"text": ""})
        return Checked(name, found)
    if name not in SEGMENTERS:
        if "." in name:
            raise UserError(f"no such segmenter: {name}; did you mean {':'.join(name.rsplit('.', 1))}?")
        there = f"{', '.join(SEGMENTERS)}, or package.module:function"
        raise UserError(f"no such segmenter: {name}; there are {there}.{did_you_mean(name, SEGMENTERS)}")
    return SEGMENTERS[name]


@dataclass(frozen=True)
class Checked:
    """A user's segmenter. RunError where it fails or returns what are no boundaries.

    It never sees the empty text, for which the plainest function, [0, len(text)], would be wrong.
    """

    name: str
    function: Callable[[str], Any]

    def __call__(self, text: str) -> list[int]:
        if not text:
            return [0]
        try:
            with contained(), drawing(0):  # a text is always cut alike
                returned = self.function(text)
        except Exception as error:  # whatever a user's function may raise
            raise RunError(self._complaint(text, place_of(error))) from error
        if isinstance(returned, str) or not isinstance(returned, Sequence | np.ndarray):
            raise RunError(
                self._complaint(text, f"returned {type(returned).__name__}; expected a list of whole numbers")
            )
        fault = _fault(returned, len(text))
        if fault:
            shown = reprlib.repr(returned.tolist() if isinstance(returned, np.ndarray) else returned)
            expected = (
                f"expected the boundaries of its steps in characters: the first 0, the last {len(text)} (the length of "
                "the text), each above the one before"
            )
            raise RunError(self._complaint(text, f"returned {shown}, {fault}; {expected}"))
        return [operator.index(b) for b in returned]

    def _complaint(self, text: str, found: str) -> str:
        cure = "correct it, then go on with --resume --allow-changes inputs.steps"
        return f"segmenter {self.name}: {found}; the text: {reprlib.repr(text)}; {cure}"


def _fault(boundaries: Sequence[Any] | np.ndarray, length: int) -> str:
    """What is wrong first, or an empty text."""
    for boundary in boundaries:
        try:
            operator.index(boundary)
        except TypeError:
            return f"where {reprlib.repr(boundary)} is no whole number"
    if len(boundaries) == 0:
        return "which is empty"
    if boundaries[0] != 0:
        return f"which begins with {boundaries[0]}"
    for before, after in pairwise(boundaries):
        if after <= before:
            return f"where {after} follows {before}"
    return "" if boundaries[-1] == length else f"which ends with {boundaries[-1]}"


def token_starts(boundaries: Sequence[int], chars_before: Callable[[int], int], num_tokens: int) -> list[int]:
    """The first token of each step: 0 first, strictly increasing; empty where there is no token.

    A token belongs to the step that has its first character (arXiv:2410.01679, the authors' code). A step without the
    first character of any token is left out. Tokens without text, as EOS when it is left out of the text, belong to the
    last step if they stand at the end, and elsewhere to the step of the next character.

    `chars_before(n)` is the number of characters that the first n of `num_tokens` tokens decode to; it must never
    decrease, and is called O(steps * log(tokens)) times. A character that the n-th token leaves unfinished, shown as
    U+FFFD at the end, should not be counted: some decoders show one for each of its bytes, which decreases.
    """
    starts = [0] if num_tokens else []
    for begin, end in pairwise(boundaries):
        if begin == 0 or not starts:
            continue
        token = bisect_left(range(num_tokens), begin, lo=starts[-1], key=chars_before)
        if token < num_tokens and chars_before(token) < end:
            starts.append(token)
    return starts
