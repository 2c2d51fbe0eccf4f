"""Two streams of rows: those of the sources, whose weights are learned, and a few of a trusted set beside them.

Both are pure functions of the step, so that a resume has nothing to restore but the logits, which are the team's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from align.batches import Group
from align.needs import TRUSTED
from align.scoring.experience import gather_experience
from align.sources.offline import Offline
from align.training.controllers import recalling
from align.training.portion import Portion
from align.training.snapshot import Progress
from align.training.sources import SourceLogits, effective_number


@dataclass(kw_only=True)
class TwoLevels(Offline):
    """Rows of a data set and of a trusted one, with a method that knows the weights of now."""

    sources: SourceLogits
    trusted_of_step: Callable[[int], Sequence[Group]]

    def next(self, progress: Progress) -> Portion:
        portion, shares = super().next(progress), self.sources.shares()
        known = {"source_names": self.sources.names, "source_weights": shares}
        method = recalling(portion.method, known)
        rows = self.trusted_of_step(progress.step)
        trusted = gather_experience(self.batching, rows, self.roles[TRUSTED], method)
        told = {f"weights/{name}": p for name, p in zip(self.sources.names, shares, strict=True)}
        told["effective_sources"] = effective_number(shares)
        return replace(portion, method=method, metrics={**portion.metrics, **told}, beside={TRUSTED: trusted})
