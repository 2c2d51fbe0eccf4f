"""1 where a completion holds one of some words, 0 where not; or what share of them it holds."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal

from align.rewards.base import Text, text_of


@dataclass(frozen=True, kw_only=True)
class Reward:
    """Whole words, whatever their case."""

    words: list[str] = field(default_factory=list)  # that are looked for
    column: str = ""  # instead: the data column with a row's own words, a text or a list
    count: Literal["any", "share"] = "any"  # one of them is enough; or their share

    def __post_init__(self):
        if bool(self.words) == bool(self.column):
            raise ValueError("takes words, or the column that holds them")

    @property
    def reads(self) -> dict[str, str]:
        return {"column": self.column} if self.column else {}

    def __call__(self, prompts: list[Text], completions: list[Text], **columns: Any) -> list[float | None]:
        own = columns.get(self.column, [None] * len(completions))
        return [self._one(text_of(c), self.words or w) for c, w in zip(completions, own, strict=True)]

    def _one(self, text: str, words: Any) -> float | None:
        if not words:
            return None
        words = [words] if isinstance(words, str) else words
        held = [re.search(rf"(?<!\w){re.escape(w)}(?!\w)", text, re.IGNORECASE) is not None for w in words]
        return float(any(held)) if self.count == "any" else sum(held) / len(held)
