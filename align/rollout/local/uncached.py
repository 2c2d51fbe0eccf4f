"""Writing without a cache, for models whose keys, values or states cannot be shared, repeated and dropped row by row.

Every token runs the whole sequence through the model again: slow, and right for whatever is causal, as padding on the
right comes after all that is read. transformers' own `generate` would keep a cache, but draws for a batch as a whole: a
row would depend on its neighbours, and what was cut could not go on as if it had not been.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from align.rollout.engine import Request, Sampling, StopReason
from align.rollout.local.engine import LocalEngine, queue, take
from align.rollout.local.rows import Unfinished


class PlainEngine(LocalEngine):
    """A transformers model in this process, run over whole sequences."""

    def _rows(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[tuple[Unfinished, StopReason]]:
        waiting, rows = queue(requests), list[Unfinished]()
        while waiting or rows:
            if self.refill or not rows:
                taken = take(waiting, requests, self.batch_size - len(rows))
                rows += [row for i in taken for row in self._rows_of(i, requests[i], sampling)]
            begun = [(requests[row.request].prompt, requests[row.request].prefix) for row in rows]
            whole = [np.concatenate([*start, row.tokens]) for start, row in zip(begun, rows, strict=True)]
            self._next(rows, last_logits(self.model, whole, self.pad), sampling)
            stops = [self._stop(row, sampling) for row in rows]
            yield from ((row, stop) for row, stop in zip(rows, stops, strict=True) if stop)
            rows = [row for row, stop in zip(rows, stops, strict=True) if not stop]


def last_logits(model: Any, rows: Sequence[np.ndarray], pad: int) -> Tensor:
    """(N, V): of the token after each row."""
    lengths = torch.tensor([len(row) for row in rows], device=model.device)
    ids = torch.full((len(rows), max(map(len, rows))), pad, dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.from_numpy(row.astype(np.int64))
    ids = ids.to(model.device)
    mask = (torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]).long()
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    if "logits_to_keep" not in inspect.signature(inner.forward).parameters:
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        return logits[torch.arange(len(rows), device=ids.device), lengths - 1]
    ends, place = torch.unique(lengths - 1, return_inverse=True)  # nobody has the memory for logits everywhere
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=ends).logits
    return logits[torch.arange(len(rows), device=ids.device), place]
