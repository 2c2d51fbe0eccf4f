"""What the symbols of a page's formulas stand for: answers, their tokens, numbers of rows and of tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

Number = Callable[["Token"], Tensor]


@dataclass(frozen=True)
class Answer:
    """One sequence of a row of the batch."""

    member: str
    row: int


@dataclass(frozen=True)
class Token:
    """The token of an answer at a place among those that count, from 1."""

    answer: Answer
    place: int


@dataclass(frozen=True)
class World:
    """What a page takes as known; names are as the reader spells them: `\\pi_\\mathrm{ref}`."""

    lengths: Mapping[Answer, int]
    groups: Sequence[int]  # which prompt each row answers
    rows: Sequence[int]  # those that are learned from
    policies: Mapping[str, Number] = field(default_factory=dict)  # log-probabilities
    numbers: Mapping[str, float] = field(default_factory=dict)
    of_rows: Mapping[str, Any] = field(default_factory=dict)
    of_tokens: Mapping[str, Number] = field(default_factory=dict)
    sets: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    says: Mapping[str, Callable[[Any], bool]] = field(default_factory=dict)  # conditions in words, of a scope
    unbiased: bool = False  # whether the variance over tokens is divided by their number less 1
    member: str = "completion"

    def answer(self, row: int) -> Answer:
        return Answer(self.member, row)

    def tokens(self, answer: Answer) -> list[Token]:
        return [Token(answer, place + 1) for place in range(self.lengths[answer])]

    def all_tokens(self) -> list[Token]:
        return [token for row in range(len(self.groups)) for token in self.tokens(self.answer(row))]

    def prompt(self, row: int) -> list[int]:
        """The rows that answer the prompt of this one."""
        return [other for other, group in enumerate(self.groups) if group == self.groups[row]]

    def is_last(self, token: Token) -> bool:
        return token.place == self.lengths[token.answer]

    def is_beyond(self, thing: Any) -> bool:
        return isinstance(thing, Token) and thing.place > self.lengths[thing.answer]


def number(value: Any) -> Tensor:
    return value if isinstance(value, Tensor) else torch.tensor(float(value), dtype=torch.float64)
