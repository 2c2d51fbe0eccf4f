"""What a judge is asked, and what it says: one vocabulary for people, models, rules and recorded verdicts.

A question is about one answer (graded) or two (pairwise). A verdict is a number or the reason why there is none; it is
never made up: what cannot be read, or was not said, has `score` None and a `why`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

Text = str | list[dict[str, Any]]
Order = Literal["", "ab", "ba"]  # of two answers, as they were shown; empty where one is judged by itself


@dataclass(frozen=True, kw_only=True)
class Question:
    """One thing to be judged: the answer of one model, or those of two, to one item.

    `models` and `answers` stand in one order for all judges and orders of showing: `order` alone says who was shown
    first.
    """

    item: str  # id of the item
    prompt: Text
    models: tuple[str, ...]  # one, or two
    answers: tuple[str, ...]  # as many
    order: Order = ""
    repeat: int = 0  # the same question, asked again
    reference: str = ""  # an answer to go by
    category: str = ""
    columns: dict[str, Any] = field(default_factory=dict)  # of the item, for rules


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What one judge said to one question."""

    item: str
    models: tuple[str, ...]
    judge: str  # its name
    order: Order = ""
    repeat: int = 0
    revision: int = 0  # of what is known of the question: where it was judged or read anew, the highest counts
    score: float | None  # pairwise: 1 where models[0] is better, 0 where models[1] is, 1/2 for a tie; graded: the grade
    strong: bool = False  # said to be much better
    why: str = ""  # why there is no score
    raw: str = ""  # what was said, to be read anew
    columns: dict[str, Any] = field(default_factory=dict)  # grades of both answers, flags, tokens paid


@runtime_checkable
class Judge(Protocol):
    """Whoever answers questions."""

    @property
    def name(self) -> str:
        """As it is called in results; what it is made of is its identity."""
        ...

    @property
    def ordered(self) -> bool:
        """Whether what it says may depend on who is shown first."""
        ...

    @property
    def pairwise(self) -> bool:
        """Whether it is asked about two answers, or about one."""
        ...

    def identity(self) -> dict[str, Any]:
        """All that its verdicts depend on: weights or endpoint and revision, instructions, decoding parameters."""
        ...

    def judge(self, questions: Sequence[Question]) -> list[Verdict]:
        """One verdict for each question, in their order."""
        ...
