"""Reward functions that do what users' do: right, wrong, slow and deadly. Worker processes import them by name."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any


def length(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
    return [float(len(text)) for text in completions]


async def patient(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
    await asyncio.sleep(0)
    return [float(len(text)) for text in completions]


def hanging(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
    for text in completions:
        if text == "hang":
            time.sleep(600)
    return [1.0] * len(completions)


class Heavy:
    """Slow once, before the first sample."""

    warmed = False

    def warm(self) -> None:
        time.sleep(1.5)
        self.warmed = True

    def __call__(self, prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
        return [float(self.warmed)] * len(completions)


def raising(prompts: list[str], completions: list[str], **columns: Any) -> list[float | None]:
    if "bad" in completions:
        raise KeyError("no such word")
    return [None if text == "skip" else 2.0 for text in completions]


def dying(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
    if "die" in completions:
        os._exit(3)
    return [1.0] * len(completions)


def too_few(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
    return [1.0] * (len(completions) - 1)


def text(prompts: list[str], completions: list[str], **columns: Any) -> list[Any]:
    return ["good"] * len(completions)


def nan(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
    return [float("nan")] * len(completions)


def number(prompts: list[str], completions: list[str], **columns: Any) -> Any:
    return 1.0


def question(prompts: list[Any], completions: list[Any], question: list[int], **columns: Any) -> list[float]:
    return [float(q) for q in question]
