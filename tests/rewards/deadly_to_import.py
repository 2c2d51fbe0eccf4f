"""A reward function that no worker process lives to call."""

from __future__ import annotations

import multiprocessing
import os
from typing import Any

if multiprocessing.parent_process() is not None:
    os._exit(3)


def fine(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
    return [1.0] * len(completions)
