"""Minus the share of a completion's word n-grams that stand in it already: 0 says nothing twice, -1 nothing new."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from align.rewards.base import Text, text_of


@dataclass(frozen=True, kw_only=True)
class Reward:
    ngram: int = 3  # words

    def __post_init__(self):
        if self.ngram < 1:
            raise ValueError(f"ngram {self.ngram} must be 1 or more")

    def __call__(self, prompts: list[Text], completions: list[Text], **columns: Any) -> list[float]:
        return [self._one(text_of(c).lower().split()) for c in completions]

    def _one(self, words: list[str]) -> float:
        grams = [tuple(words[i : i + self.ngram]) for i in range(len(words) - self.ngram + 1)]
        return len(set(grams)) / len(grams) - 1 if grams else 0.0
