"""Evaluation: did it help, and how sure is that.

Read `cli` first, then `commands`, `records`, `statistics` and `analysis`. What commands do is also here, as functions
with typed results: align_eval.compare, leaderboard and frontier.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from align_eval.analysis.comparison import Comparison, compare
    from align_eval.analysis.frontier import Frontier, frontier
    from align_eval.analysis.leaderboard import Leaderboard, leaderboard
    from align_eval.statistics.estimate import Estimate

__all__ = ["Comparison", "Estimate", "Frontier", "Leaderboard", "compare", "frontier", "leaderboard"]

PLACES = {  # imported when they are asked for: a command that needs none of them starts at once
    "Comparison": "analysis.comparison",
    "Estimate": "statistics.estimate",
    "Frontier": "analysis.frontier",
    "Leaderboard": "analysis.leaderboard",
    "compare": "analysis.comparison",
    "frontier": "analysis.frontier",
    "leaderboard": "analysis.leaderboard",
}


def __getattr__(name: str) -> Any:
    if name not in PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{PLACES[name]}"), name)
