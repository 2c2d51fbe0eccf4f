"""Reward functions that do what users' do: right, wrong, slow and deadly. Worker processes import them by name."""

from __future__ import annotations

import asyncio
import os
import random
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


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


def crowded(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
    if len(completions) > 1:
        raise ValueError("two")
    return [1.0]


@dataclass(frozen=True)
class Lengths:
    """As functions written for TRL return them."""

    kind: str

    def __call__(self, prompts: list[str], completions: list[str], **columns: Any) -> Any:
        import torch  # slow, and workers import this file

        found = [len(text) for text in completions]
        if self.kind == "list of both":
            return [torch.tensor(found[0]), *np.array(found[1:], np.float32)]
        return np.array(found) if self.kind == "array" else torch.tensor(found, dtype=torch.bfloat16)


def number(prompts: list[str], completions: list[str], **columns: Any) -> Any:
    return 1.0


def question(prompts: list[Any], completions: list[Any], question: list[int], **columns: Any) -> list[float]:
    return [float(q) for q in question]


def spoiling(
    prompts: list[Any], completions: list[Any], completion_ids: list[list[int]], **columns: Any
) -> list[float]:
    """Counts what it finds, and leaves nothing of it."""
    found = [float(num_found(*all_of)) for all_of in zip(prompts, completions, completion_ids, strict=True)]
    found = [n + len(words) for n, words in zip(found, columns["words"], strict=True)]
    for told in (*completion_ids, *columns["words"]):
        told.clear()
    for messages in (*prompts, *completions):
        messages[0]["content"] = ""
    return found


def num_found(prompt: Any, completion: Any, ids: list[int]) -> int:
    return len(prompt[0]["content"]) + len(completion[0]["content"]) + len(ids)


def dice(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
    return [random.random() + np.random.random() for _ in completions]


async def async_dice(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
    await asyncio.sleep(0)
    return [random.random() + np.random.random() for _ in completions]


class Loaded:
    """Draws once, when it is made."""

    def __init__(self) -> None:
        self.side = random.random() + np.random.random()

    def __call__(self, prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
        return [self.side] * len(completions)


def lasting(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
    """Leaves the number of its process in the file that a completion names, and does not come back."""
    Path(completions[0]).write_text(str(os.getpid()))
    time.sleep(600)
    return [1.0]


def unyielding(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
    """Likewise, and lets no other thread of its process run meanwhile."""
    Path(completions[0]).write_text(str(os.getpid()))
    re.match("(a+)+$", "a" * 64 + "b")
    return [1.0]


def slow(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
    time.sleep(0.3)
    return [2.0]


def rank(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
    """How many completions of the prompt are shorter."""
    assert len(set(prompts)) == 1
    if "hang" in completions:
        time.sleep(600)
    if "bad" in completions:
        raise KeyError("no such word")
    return [float(sum(len(other) < len(text) for other in completions)) for text in completions]


setattr(rank, "compares", "prompt")  # noqa: B010


def by_row(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
    return [0.0] * len(completions)


setattr(by_row, "compares", "row")  # noqa: B010
