"""The golden vectors of steps: where texts are divided, and which token belongs to which step."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from typing import Any

import torch
from golden_files import FILES, Checker

from align.rollout.steps import ANSWER, gsm8k, math, token_starts

Check = Callable[[str, str, torch.dtype], None]


def read(stem: str, name: str, dtype: torch.dtype) -> tuple[dict[str, Any], Checker]:
    """The case, whose inputs are texts."""
    case = next(c for c in FILES[stem]["cases"] if c["name"] == name)
    return case, Checker(FILES[stem], case["expected"], dtype)


def check_lines(stem: str, name: str, dtype: torch.dtype) -> None:
    case, check = read(stem, name, dtype)
    assert case["hyperparameters"] == {"delimiter": "\n", "answer_prefix": ANSWER}
    check.exactly("boundaries", [gsm8k(text) for text in case["inputs"]["texts"]])
    check.done()


def check_solutions(stem: str, name: str, dtype: torch.dtype) -> None:
    case, check = read(stem, name, dtype)
    check.exactly("boundaries", [math(text) for text in case["inputs"]["texts"]])
    check.done()


def check_tokens(stem: str, name: str, dtype: torch.dtype) -> None:
    """EOS is one more token, without text."""
    case, check = read(stem, name, dtype)
    boundaries = case["inputs"]["step_char_boundaries"]
    places = [*(begin for begin, _ in case["inputs"]["token_char_offsets"]), len(case["inputs"]["text"])]
    starts = token_starts(boundaries, places.__getitem__, len(places))
    steps = [bisect_right(boundaries, places[start]) - 1 for start in starts]  # a step without a token is left out
    *of_tokens, of_eos = (steps[bisect_right(starts, token) - 1] for token in range(len(places)))
    check.exactly("step_of_token", of_tokens)
    check.exactly("step_of_eos", of_eos)
    check.done()


STEP_CHECKS: dict[tuple[str, str], Check] = {
    ("vineppo", "newline_segmentation"): check_lines,
    ("vineppo", "math_segmentation_reference_behaviour"): check_solutions,
    ("vineppo", "char_to_token"): check_tokens,
}
