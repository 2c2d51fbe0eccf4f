"""What a model is asked for, and what it gives: answers, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from align_eval.records import Answer, Item

SERVED = "served"  # a column of answers: which model an endpoint says has written

@dataclass(frozen=True, kw_only=True)
class Ask:
    """Answers to one item."""

    item: Item
    samples: tuple[int, ...]  # their numbers
    seeds: tuple[int, ...]  # of each


@dataclass(frozen=True, kw_only=True)
class Missing:
    """An answer that could not be made."""

    item: str
    model: str
    why: str
    sample: int = 0
    again: bool = False  # nothing came back, and another time something may: it is not kept, and asked for again


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How answers to a task's items are written: the settings, with what the task and the run's recipe say."""

    mode: str  # write or choose
    max_completion_length: int
    stop_strings: tuple[str, ...]
    kept_strings: tuple[str, ...] = ()  # those of the run's recipe, which stay at the end of an answer as in training
    gap: str = " "  # between prompt and choice, where the form is text
    ended: bool = False  # whether the end of the turn counts among a choice's tokens

    def cut_at(self, text: str) -> str:
        """A text without the first stop string in it and what follows, unless that is one to be kept."""
        places = [i for s in self.stop_strings if s not in self.kept_strings and (i := text.find(s)) >= 0]
        return text[: min(places)] if places else text


Made = Answer | Missing
Keep = Callable[[Sequence[Made]], None]  # called as soon as something is there


@runtime_checkable
class Model(Protocol):
    """Whoever answers."""

    name: str
    side_by_side: int  # answers that are written together
    whole_chunks: bool  # what is written together may depend on it by rounding: a chunk is made as a whole
    asks: bool  # whether somebody writes now, which costs something; else the answers are there already
    exact: bool  # whether `count` is right, or an estimate

    def identity(self) -> dict[str, Any]:
        """All that its answers depend on, beside items and decoding."""
        ...

    def trained(self) -> Trained:
        """What its run's recipe says of completions."""
        ...

    def answer(self, asks: Sequence[Ask], plan: Plan, keep: Keep) -> None:
        """Every answer that is asked for, or why it is missing, is given to `keep` once."""
        ...

    def count(self, item: Item, plan: Plan) -> int:
        """Tokens that are read for one answer: the prompt, with each choice where one is chosen. BadRow for an item
        that cannot be read."""
        ...

    def close(self) -> None:
        """Ends what was started."""
        ...


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a run's recipe says of completions; empty for a plain folder."""

    max_completion_length: int = 0
    stop_strings: tuple[str, ...] = ()
