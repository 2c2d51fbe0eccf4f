"""Verdicts that are remembered: a completion that comes again is not judged again."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable, Sequence

from align.rewards.base import Sample
from align.rewards.pool import Verdict

SIZE = 100_000  # verdicts of a function


class Cache:
    """For a function whose verdict is always the same for the same prompt, completion and columns."""

    def __init__(self, size: int = SIZE):
        self.size = size
        self._known: OrderedDict[bytes, Verdict] = OrderedDict()

    def through(
        self, samples: Sequence[Sample], judge: Callable[[Sequence[Sample]], Sequence[Verdict]]
    ) -> list[Verdict]:
        """Verdicts in the order of `samples`; `judge` is asked for what is not known, once for each."""
        keys = [key_of(sample) for sample in samples]
        missing = {key: sample for key, sample in zip(keys, samples, strict=True) if key not in self._known}
        new = dict(zip(missing, judge(list(missing.values())), strict=True)) if missing else {}
        found = [new[key] if key in new else self._known[key] for key in keys]
        for key, verdict in zip(keys, found, strict=True):
            if not verdict.error and not verdict.late:  # what went wrong may go right another time
                self._known[key] = verdict
                self._known.move_to_end(key)
        while len(self._known) > self.size:
            self._known.popitem(last=False)
        return found


def key_of(sample: Sample) -> bytes:
    """Of all that a reward function is told."""
    told = [sample.prompt, sample.completion, sample.completion_ids, sample.columns]
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=repr).encode()).digest()
