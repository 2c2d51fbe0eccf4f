"""Sequences that a model is to score alike however they are laid out, and by how much it does not.

The tokens are random. What is asked for at each place is a token that the model finds likely there: of one that it
finds all but impossible, rounding alone moves the log-probability far.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from align.batches import Tokens
from align.scoring.layout import RowLayout, lay_out
from align.scoring.rounding import distance, limit
from align.scoring.score import scatter

LAYOUTS: tuple[RowLayout, ...] = ("padded", "packed", "shared")
BLIND = 0.25  # of what the prompts change: a gap above this share is not rounding, whatever rounding does
PROBE_LENGTHS = ((9, (7, 3)), (4, (11, 6)))  # prompt, completions; unequal on purpose
LONG_COMPLETIONS = (8, 5)
REFUSALS = (
    TypeError, ValueError, RuntimeError, IndexError, NotImplementedError, KeyError, AttributeError, AssertionError,
)  # fmt: skip


@dataclass(frozen=True)
class Probe:
    """How a model is asked: its vocabulary, the column it makes, in which precision and where it computes."""

    vocab_size: int
    column: str  # logps, or scores of a model with a scalar head
    precision: torch.dtype | None
    device: torch.device
    layouts: tuple[RowLayout, ...] = LAYOUTS
    shortest: int = 2  # tokens of the shortest sequence of the data, and of the longest
    longest: int = 0


@dataclass(frozen=True)
class Trial:
    """Groups of sequences that a model is to score alike in every layout."""

    model: Any  # a Scorer, or the prepared module around one
    asked: Probe
    groups: Sequence[Sequence[Tokens]]
    apart: bool = False  # packed one sequence to a row, which is all that memory is sure to hold

    @cached_property
    def members(self) -> list[Tokens]:
        return [member for group in self.groups for member in group]

    @cached_property
    def mask(self) -> Bool[Tensor, "S T"]:
        """Where there is something to compare: at each token of a completion, or once for each sequence."""
        lengths = [1 if self.asked.column == "scores" else len(m.completion) for m in self.members]
        return torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]

    @cached_property
    def truths(self) -> list[tuple[Tensor | None, Tensor]]:
        """What is asked of each sequence, tokens or nothing, and the answer (1, T): no layout, no padding, nothing but
        the sequence, and none that is longer has been read before."""
        found: dict[int, tuple[Tensor | None, Tensor]] = {}
        for i in sorted(range(len(self.members)), key=lambda i: len(self.members[i])):
            one = [[self.members[i]]]
            likely = self._made(one, "padded", "likely", None).long() if self.asked.column == "logps" else None
            found[i] = likely, self._made(one, "padded", self.asked.column, likely)
        return [found[i] for i in range(len(found))]

    @property
    def likely(self) -> Int[Tensor, "S T"] | None:
        found = [likely for likely, _ in self.truths if likely is not None]
        return torch.cat(found) if found else None

    @property
    def alone(self) -> Float[Tensor, "S T"]:
        return torch.cat([answer for _, answer in self.truths])

    def again(self, i: int, copies: int = 1, cut: int = 0) -> Float[Tensor, "copies T"]:
        """A sequence by itself, as often as there are copies. `cut`: of its prompt are that many tokens left."""
        member = self.members[i]
        member = dataclasses.replace(member, prompt=member.prompt[-cut:])
        likely, _ = self.truths[i]
        wanted = None if likely is None else likely.expand(copies, -1)
        return self._made([[member]] * copies, "padded", self.asked.column, wanted)

    def limits(self, layouts: Sequence[RowLayout], copies: int) -> dict[RowLayout, float]:
        """What each may differ by from one sequence at a time."""
        loose = max(self._limit(i, copies) for i in range(len(self.members)))
        if tuple(layouts) == ("padded",):
            return {"padded": loose}
        strict = min(loose, BLIND * self._worth_of_prompts())
        return {name: loose if name == "padded" else strict for name in layouts}

    def _limit(self, i: int, copies: int) -> float:
        return limit(self.model, self.asked.precision, lambda: self.again(i, copies)[:, None], self.mask[i : i + 1])

    def _worth_of_prompts(self) -> float:
        """How far the column moves when prompts are cut to their last token, as by a mask that hides them."""
        cut = torch.cat([self.again(i, cut=1) for i in range(len(self.members))])
        return distance(cut, self.alone, self.mask, self.asked.precision)

    def findings(self, limits: Mapping[RowLayout, float]) -> dict[RowLayout, str]:
        """Layout -> empty where it is right, else what is wrong with it."""
        found: dict[RowLayout, str] = {}
        for layout, most in limits.items():
            laid = [[m] for m in self.members] if self.apart and layout != "shared" else self.groups
            try:
                made = self._made(laid, layout, self.asked.column, self.likely)
            except REFUSALS as error:
                found[layout] = f"refused by the model ({type(error).__name__}: {str(error)[:120]})"
                continue
            gap = distance(made, self.alone, self.mask, self.asked.precision)
            length = max(map(len, self.members))
            wrong = f"{self.asked.column} differ by {gap:.2g} at {length} tokens (limit {most:.2g})"
            found[layout] = "" if gap < most else wrong
            if most == 0:
                found[layout] = f"{self.asked.column} are the same for any prompt, so nothing can be measured"
        return found

    def _made(
        self, groups: Sequence[Sequence[Tokens]], layout: RowLayout, column: str, wanted: Int[Tensor, "S T"] | None
    ) -> Float[Tensor, "S T"]:
        """A column of every sequence, for the tokens `wanted` at its places."""
        rows = lay_out(groups, layout).to(self.asked.device)
        if wanted is not None:
            rows = dataclasses.replace(rows, target=wanted.to(self.asked.device)[rows.origin[0], rows.origin[1]])
        with torch.no_grad():
            made = self.model(rows, (column,), 1)[column].float()
        made = made[:, None] if column == "scores" else scatter(made, rows, (len(rows), self.mask.shape[1]))
        return made.cpu()


def far_apart(asked: Probe, seed: int = 0) -> list[list[Tokens]]:
    """Two of the greatest length, with one prompt, and one of the least."""
    draw = np.random.default_rng((seed, 1))
    length = max(asked.longest - max(LONG_COMPLETIONS), 1)
    least = max(asked.shortest, 2)
    return [
        _group(draw, asked.vocab_size, length, LONG_COMPLETIONS),
        _group(draw, asked.vocab_size, (least + 1) // 2, (least // 2,)),
    ]


def probe(vocab_size: int, seed: int = 0) -> list[list[Tokens]]:
    """Two groups of random tokens."""
    draw = np.random.default_rng(seed)
    return [_group(draw, vocab_size, prompt, completions) for prompt, completions in PROBE_LENGTHS]


def _group(draw: np.random.Generator, vocab_size: int, prompt: int, completions: Sequence[int]) -> list[Tokens]:
    start = draw.integers(0, vocab_size, prompt).astype(np.int32)
    said = [draw.integers(0, vocab_size, n).astype(np.int32) for n in completions]
    return [Tokens(start, ids, np.ones(len(ids), dtype=bool)) for ids in said]
