"""A reward function whose worker processes need two seconds to start."""

from __future__ import annotations

import multiprocessing
import time
from typing import Any

if multiprocessing.parent_process() is not None:
    time.sleep(2)


def unhurried(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
    time.sleep(600 if "hang" in completions else 0.3)
    return [1.0] * len(completions)
