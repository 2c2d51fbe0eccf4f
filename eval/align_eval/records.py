"""What is asked, what was answered and what that is worth: items of a task, answers of models, scores of answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Text = str | list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Item:
    """One question of a task. Its id joins answers, verdicts and scores; it is unique within the task."""

    id: str
    prompt: Text
    reference: Any = None  # the right answer, or one to go by
    category: str = ""
    columns: dict[str, Any] = field(default_factory=dict)  # whatever else the row has


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a model wrote for an item."""

    item: str
    model: str
    text: str
    sample: int = 0  # which of several
    stop: str = ""  # why it ended: eos, stop_string, length
    num_tokens: int | None = None
    columns: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Score:
    """What one answer is worth by one metric: of a verifiable task, or of a reward model. Verdicts of judges are
    `align.judges.base.Verdict`."""

    item: str
    model: str
    metric: str
    score: float | None
    sample: int = 0
    why: str = ""  # why there is no score
    columns: dict[str, Any] = field(default_factory=dict)  # what was extracted, the task, who scored
