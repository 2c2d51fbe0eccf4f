"""Evaluation: did it help, and how sure is that.

Read `cli` first, then `commands`, `records`, `statistics` and `analysis`. What commands do is also here, as functions
with typed results: align_eval.judge, compare, leaderboard and frontier.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from align.judges.named import JudgeSpec
    from align_eval.analysis.comparison import Comparison, compare
    from align_eval.analysis.frontier import Frontier, frontier
    from align_eval.analysis.leaderboard import Leaderboard, leaderboard
    from align_eval.judging.run import judge
    from align_eval.records import Answer, Item
    from align_eval.statistics.estimate import Estimate

__all__ = [
    "Answer", "Comparison", "Estimate", "Frontier", "Item", "JudgeSpec", "Leaderboard",
    "compare", "frontier", "judge", "leaderboard",
]  # fmt: skip

PLACES = {  # imported when they are asked for: a command that needs none of them starts at once
    "Answer": "align_eval.records",
    "Comparison": "align_eval.analysis.comparison",
    "Estimate": "align_eval.statistics.estimate",
    "Frontier": "align_eval.analysis.frontier",
    "Item": "align_eval.records",
    "JudgeSpec": "align.judges.named",
    "Leaderboard": "align_eval.analysis.leaderboard",
    "compare": "align_eval.analysis.comparison",
    "frontier": "align_eval.analysis.frontier",
    "judge": "align_eval.judging.run",
    "leaderboard": "align_eval.analysis.leaderboard",
}


def __getattr__(name: str) -> Any:
    if name not in PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(PLACES[name]), name)
