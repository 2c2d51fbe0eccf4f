"""Which rows of a store a step learns from, and which prompts are completed next: pure functions of the position."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from align.batches import Group
from align.data.mixture import Mixture
from align.data.store import Store
from align.needs import SOURCE
from align.rollout.writer import Prompt


@dataclass(frozen=True, kw_only=True)
class RowsOfSteps:
    """Rows as optimiser steps come to them."""

    store: Store
    mixture: Mixture
    batch_size: int
    total: int | None = None  # rows of the whole run, of which its last step has the rest; None: every step has as many
    with_source: bool = False  # each row says by a number which source it is of

    def __call__(self, step: int) -> list[Group]:
        groups = self.store.rows(self.mixture.rows_of_step(step, self.batch_size, self.total).tolist())
        return [self._told(group) for group in groups] if self.with_source else groups

    def _told(self, group: Group) -> Group:
        source = float(self.store.index[group.index]["source"])
        return dataclasses.replace(group, row={**group.row, SOURCE: source})


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """Those whose turn is from `start` to `stop`, in an endless stream."""

    store: Store
    mixture: Mixture

    def __call__(self, start: int, stop: int) -> list[Prompt]:
        return prompts_of(self.store, self.mixture.rows(start, stop).tolist(), range(start, stop))


def prompts_of(store: Store, rows: list[int], numbers: range) -> list[Prompt]:
    """These rows as prompts; `numbers` are their turns."""
    found = zip(rows, numbers, store.rows(rows), strict=True)
    return [
        Prompt(row=row, number=number, tokens=group.members[0].prompt, columns=store.extras(row))
        for row, number, group in found
    ]
