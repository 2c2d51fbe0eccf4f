"""Rows of forest plots."""

from __future__ import annotations

from evaluations import of

from align_eval.page.strips import Forest, Strip, forest
from align_eval.statistics.estimate import Estimate


def test_why_there_is_no_interval_has_room_on_several_lines() -> None:
    bare = Estimate(value=0.5, why="all prompts have the same value, which says nothing of how others may differ")
    drawn = forest(Forest(title="Win rate", strips=[Strip(name="a", found=bare), Strip(name="b", found=of(0.5))]))
    assert [line.look for line in drawn.lines] == ["bare", ""]
