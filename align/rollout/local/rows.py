"""Completions that are written side by side, and what the model remembers of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from align.rollout.engine import StopReason
from align.rollout.local.roomy_cache import RoomyLayer
from align.rollout.stop_strings import StopStrings


@dataclass
class Unfinished:
    """A completion on its way."""

    request: int  # which request, and which of its completions
    place: int
    seed: int
    begun: int  # tokens of the prefix
    room: int  # new tokens it may still have
    last: StopReason  # why it stops when there is no room
    strings: StopStrings
    tokens: list[int] = field(default_factory=list)
    logps: list[float] = field(default_factory=list)


@dataclass
class SideBySide:
    """Rows with one cache. Its columns, and those of the mask, are the prompts' and then the completions'; where each
    row has its prompt's keys for itself, all are counted as the completion's."""

    rows: list[Unfinished]
    cache: Any
    mask: Int[Tensor, "N C"]
    logits: Float[Tensor, "N V"]  # of the token that comes next
    shared: bool  # whether prompts are held once for their completions

    @property
    def grows(self) -> bool:
        """Whether rows can be added."""
        return all(isinstance(layer, RoomyLayer) for layer in self.cache.layers)

    def keep(self, kept: list[int]) -> Int[Tensor, " K"]:
        """The other rows leave; those that stay, as indices."""
        chosen = torch.tensor(kept, device=self.mask.device)
        self.rows, self.mask = [self.rows[i] for i in kept], self.mask[chosen]
        self.cache.batch_select_indices(chosen)
        return chosen

    def joined(self, other: SideBySide) -> SideBySide:
        """With the rows of another behind its own; the columns of both end together."""
        (before, after), (others_before, others_after) = self._parts(), other._parts()
        after = _stacked(after, others_after)
        unused = int(after.any(0).int().argmax())  # of rows that are gone
        for layer, theirs in zip(self.cache.layers, other.cache.layers, strict=True):
            layer.join(theirs, after.shape[1] - unused)
        mask = torch.cat([_stacked(before, others_before), after[:, unused:]], 1)
        logits = torch.cat([self.logits, other.logits])
        return SideBySide([*self.rows, *other.rows], self.cache, mask, logits, self.shared)

    def _parts(self) -> tuple[Tensor, Tensor]:
        """The mask of the prompts' columns, and of the completions'."""
        width = self.mask.shape[1] - self.cache.layers[0].own_length
        return self.mask[:, :width], self.mask[:, width:]


def _stacked(above: Int[Tensor, "N C"], below: Int[Tensor, "M D"]) -> Int[Tensor, "N+M E"]:
    width = max(above.shape[1], below.shape[1])
    return torch.cat([F.pad(part, (width - part.shape[1], 0)) for part in (above, below)])
