"""Evaluation: did it help, and how sure is that.

Read `cli` first, then `commands`, `records`, `store`, `statistics`, `analysis`, `results`, `page` and `formats`;
`words` reads KEY=VALUE, `ending` says how a command ends that got less than it asked for. What commands do is also
here, as functions with typed results: align_eval.run_tasks, evaluate_checkpoints, judge, judge_checkpoints, reward,
examine, compare, leaderboard, frontier, report, bring (import) and take_out (export).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from align.judges.named import JudgeSpec
    from align_eval.analysis.comparison import Comparison, compare
    from align_eval.analysis.frontier import Frontier, frontier
    from align_eval.analysis.leaderboard import Leaderboard, leaderboard
    from align_eval.formats.moving import Moved, bring, take_out
    from align_eval.judging.checkpoints import Standings, judge_checkpoints
    from align_eval.judging.endpoint import Examined, examine
    from align_eval.judging.rewarding import Rewarded, reward
    from align_eval.judging.run import Judged, judge
    from align_eval.judging.settings import Judging
    from align_eval.page.write import report
    from align_eval.records import Answer, Item
    from align_eval.running.checkpoints import Course, evaluate_checkpoints
    from align_eval.running.run import Outcome, run_tasks
    from align_eval.statistics.estimate import Estimate

__all__ = [
    "Answer", "Comparison", "Course", "Estimate", "Examined", "Frontier", "Item", "JudgeSpec", "Judged", "Judging",
    "Leaderboard", "Moved", "Outcome", "Rewarded", "Standings", "bring", "compare", "evaluate_checkpoints", "examine",
    "frontier", "judge", "judge_checkpoints", "leaderboard", "report", "reward", "run_tasks", "take_out",
]  # fmt: skip

PLACES = {  # imported when they are asked for: a command that needs none of them starts at once
    "Answer": "align_eval.records",
    "Comparison": "align_eval.analysis.comparison",
    "Course": "align_eval.running.checkpoints",
    "Estimate": "align_eval.statistics.estimate",
    "Examined": "align_eval.judging.endpoint",
    "Frontier": "align_eval.analysis.frontier",
    "Item": "align_eval.records",
    "JudgeSpec": "align.judges.named",
    "Judged": "align_eval.judging.run",
    "Judging": "align_eval.judging.settings",
    "Leaderboard": "align_eval.analysis.leaderboard",
    "Moved": "align_eval.formats.moving",
    "Outcome": "align_eval.running.run",
    "Rewarded": "align_eval.judging.rewarding",
    "Standings": "align_eval.judging.checkpoints",
    "bring": "align_eval.formats.moving",
    "compare": "align_eval.analysis.comparison",
    "evaluate_checkpoints": "align_eval.running.checkpoints",
    "examine": "align_eval.judging.endpoint",
    "frontier": "align_eval.analysis.frontier",
    "judge": "align_eval.judging.run",
    "judge_checkpoints": "align_eval.judging.checkpoints",
    "leaderboard": "align_eval.analysis.leaderboard",
    "report": "align_eval.page.write",
    "reward": "align_eval.judging.rewarding",
    "run_tasks": "align_eval.running.run",
    "take_out": "align_eval.formats.moving",
}


def __getattr__(name: str) -> Any:
    if name not in PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(PLACES[name]), name)
