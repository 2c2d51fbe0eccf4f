"""How near a completion's length is to a target, in tokens: 1 at the target, falling evenly to 0 `tolerance` away."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from align.rewards.base import Text


@dataclass(frozen=True, kw_only=True)
class Reward:
    target: int  # tokens
    tolerance: int = 0  # tokens; 0: as much as the target

    def __post_init__(self):
        if not (1 <= self.target < math.inf and 0 <= self.tolerance < math.inf):
            raise ValueError(f"target {self.target} must be 1 or more, tolerance {self.tolerance} 0 or more")

    def __call__(
        self, prompts: list[Text], completions: list[Text], completion_ids: list[list[int]], **columns: Any
    ) -> list[float]:
        reach = self.tolerance or self.target
        return [max(0.0, 1 - abs(len(ids) - self.target) / reach) for ids in completion_ids]
