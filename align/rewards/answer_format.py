r"""1 where a completion's text matches a pattern from beginning to end, 0 where not.

The default is reasoning and answer in tags: `<think>...</think><answer>...</answer>`, white space apart, each tag once:
a second answer would be a second guess.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from align.rewards.base import Text, text_of

INSIDE = r"(?:(?!</?think>|</?answer>).)*"
TAGGED = rf"\s*<think>{INSIDE}</think>\s*<answer>{INSIDE}</answer>\s*"


@dataclass(frozen=True, kw_only=True)
class Reward:
    pattern: str = TAGGED  # a regular expression; a point is any character, a line's end too

    def __post_init__(self):
        try:
            re.compile(self.pattern, re.DOTALL)
        except re.error as error:
            raise ValueError(f"pattern {self.pattern!r}: {error}") from None

    def __call__(self, prompts: list[Text], completions: list[Text], **columns: Any) -> list[float]:
        return [float(re.fullmatch(self.pattern, text_of(c), re.DOTALL) is not None) for c in completions]
