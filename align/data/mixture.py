"""Which row comes when: a pure function of sizes, weights, seed and position, the same on all ranks and after a resume.

The stream of rows is endless: epoch after epoch, each as long as all sources together. Of every epoch a source gets
the same share, its weight over the sum of weights. Each source is a stream of its own, shuffled anew each time it has
been gone through, and goes on where it stood when the last epoch ended: none of its rows comes again before all have
come equally often.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Sources that stand one after the other in a store."""

    sizes: tuple[int, ...]  # rows of each source, all > 0
    weights: tuple[float, ...]  # all > 0
    seed: int

    def __post_init__(self):
        assert len(self.sizes) == len(self.weights) > 0
        assert min(self.sizes) > 0
        assert min(self.weights) > 0
        assert self.seed >= 0

    def __len__(self) -> int:
        """Rows of an epoch."""
        return sum(self.sizes)

    def shares(self) -> tuple[int, ...]:
        """Rows of each source in an epoch: largest remainders, so they sum to the epoch."""
        exact = np.array(self.weights) / sum(self.weights) * len(self)
        whole = np.floor(exact).astype(np.int64)
        rest = len(self) - int(whole.sum())
        whole[np.argsort(whole - exact, kind="stable")[:rest]] += 1
        return tuple(int(w) for w in whole)

    def epoch(self, epoch: int) -> np.ndarray:
        """The store's row numbers in the order of this epoch, (len(self),) int64. Read only."""
        return _epoch(self, epoch)

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Positions [start, stop) of the endless stream, (stop - start,) int64."""
        return _stretch(self.epoch, len(self), start, stop)

    def rows_of_step(self, step: int, batch_size: int, total: int | None = None) -> np.ndarray:
        """The rows of an optimiser step; the last step of a run over `total` rows takes the rest."""
        start, stop = step * batch_size, (step + 1) * batch_size
        return self.rows(start, stop) if total is None else self.rows(min(start, total), min(stop, total))


def steps_of(total: int, batch_size: int) -> int:
    """Optimiser steps in a run over `total` rows."""
    return -(-total // batch_size)


@lru_cache(maxsize=3)
def _epoch(mixture: Mixture, epoch: int) -> np.ndarray:
    shares = mixture.shares()
    slots = np.repeat(np.arange(len(shares)), shares)
    if len(shares) > 1:
        slots = _generator(mixture.seed, 0, epoch).permutation(slots)
    order = np.empty(len(slots), dtype=np.int64)
    first = 0
    for source, (size, share) in enumerate(zip(mixture.sizes, shares, strict=True)):

        def shuffled(cycle: int, source: int = source, size: int = size) -> np.ndarray:
            return _generator(mixture.seed, source + 1, cycle).permutation(size)

        order[slots == source] = first + _stretch(shuffled, size, epoch * share, (epoch + 1) * share)
        first += size
    order.flags.writeable = False
    return order


def _stretch(part: Callable[[int], np.ndarray], size: int, start: int, stop: int) -> np.ndarray:
    """[start, stop) of the concatenation of `part(0), part(1), ...`, each `size` long."""
    assert 0 <= start <= stop
    pieces = [np.empty(0, dtype=np.int64)]
    for cycle in range(start // size, -(-stop // size)):
        pieces.append(part(cycle)[max(start - cycle * size, 0) : stop - cycle * size])
    return np.concatenate(pieces)


def _generator(*numbers: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(numbers)))
