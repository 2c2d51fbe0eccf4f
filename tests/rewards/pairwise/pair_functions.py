"""Functions that say which of two completions is better, as users write them. Worker processes import them by name."""

from __future__ import annotations

from typing import Any

BEATS = {("rock", "scissors"), ("scissors", "paper"), ("paper", "rock")}
asked: list[tuple[str, str]] = []


def cycle(prompt: str, a: str, b: str) -> float:
    asked.append((a, b))
    return 0.9 if (a, b) in BEATS else 0.1


async def patient(prompt: str, a: str, b: str) -> float:
    return cycle(prompt, a, b)


def first(prompt: str, a: str, b: str) -> float:
    """Favours the one that is read first."""
    return 0.75


def sure(prompt: str, a: str, b: str) -> float:
    return 1.5


def one(prompt: str, a: str) -> float:
    return 0.5


def vowels(prompts: list[str], completions: list[str], weight: list[float], **columns: Any) -> list[float | None]:
    found = [sum(c in "aeiou" for c in text) * w for text, w in zip(completions, weight, strict=True)]
    return [None if text == "skip" else n for text, n in zip(completions, found, strict=True)]
