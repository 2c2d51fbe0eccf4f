"""Reward functions of a user's own, for tests."""

from __future__ import annotations

from typing import Any


def vowels(prompts: list[str], completions: list[Any], **columns: Any) -> list[float | None]:
    """How many; of an answer without letters nothing."""
    texts = [c if isinstance(c, str) else c[-1]["content"] for c in completions]
    return [float(sum(x in "aeiou" for x in t)) if any(map(str.isalpha, t)) else None for t in texts]


def strict(prompts: list[str], completions: list[Any], **columns: Any) -> list[float]:
    if any("boom" in str(c) for c in completions):
        raise ValueError("it went off")
    return [1.0] * len(completions)
