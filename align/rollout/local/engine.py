"""Writing with the training model itself.

Each different beginning (prompt and prefix) runs through the model once; its keys and values are then shared by its
completions, or repeated for them where they cannot be. More completions than there are rows are written in parts, each
of which reads the beginning anew. A row leaves the batch when it ends; when enough have left, those that wait may begin
in their places.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from align.rollout.draws import draw, uniforms
from align.rollout.engine import Request, Sampling, StopReason, Written, room_of
from align.rollout.local.roomy_cache import make_room
from align.rollout.local.rows import SideBySide, Unfinished
from align.rollout.local.shared_prompts import sharable, share
from align.rollout.stop_strings import Decode, stop_strings

REFILL = 4  # rows are filled again when one of so many is free: each time, all that is remembered is copied


class LocalEngine:
    """A transformers model in this process."""

    def __init__(
        self, model: Any, pad_token_id: int, decode: Decode, batch_size: int, version: int = 0, *, refill: bool = False
    ):
        """`refill`: rows that have ended are given to those that wait, at once and not when all have ended."""
        self.model, self.pad, self.decode = model, pad_token_id, decode
        self.batch_size, self.version, self.refill = batch_size, version, refill

    def _rows_of(self, index: int, request: Request, sampling: Sampling) -> list[Unfinished]:
        room, last = room_of(request, sampling)
        strings = stop_strings(self.decode, request, sampling)
        begun = len(request.prefix)
        return [Unfinished(index, place, seed, begun, room, last, strings) for place, seed in enumerate(request.seeds)]

    @torch.no_grad()
    def write(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Written]]:
        parts = [part for request in requests for part in parted(request, self.batch_size)]
        written: dict[tuple[int, int], Written] = {}
        for row, stop in self._rows(parts, sampling):
            tokens, logps = np.array(row.tokens, dtype=np.int32), np.array(row.logps, dtype=np.float32)
            written[row.request, row.place] = Written(tokens, logps, stop, self.version)
        in_order = (written[i, place] for i, part in enumerate(parts) for place in range(len(part.seeds)))
        return [[next(in_order) for _ in request.seeds] for request in requests]

    def _rows(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[tuple[Unfinished, StopReason]]:
        """The completions as they end."""
        waiting, batch = queue(requests), None
        while waiting or batch:
            if batch is None or (self.refill and batch.grows and self._free(batch) >= self.batch_size // REFILL):
                batch = self._filled(batch, requests, waiting, sampling)
            tokens = self._next(batch.rows, batch.logits, sampling)
            stops = [self._stop(row, sampling) for row in batch.rows]
            yield from ((row, stop) for row, stop in zip(batch.rows, stops, strict=True) if stop)
            kept = [i for i, stop in enumerate(stops) if not stop]
            if not kept:
                batch = None
                continue
            if any(stops):
                tokens = tokens[batch.keep(kept)]
            self._read(batch, tokens)

    def _filled(
        self, batch: SideBySide | None, requests: Sequence[Request], waiting: deque[int], sampling: Sampling
    ) -> SideBySide:
        """With rows of waiting requests in the places that are free."""
        taken = list(take(waiting, requests, self._free(batch)))
        if not taken:
            assert batch is not None
            return batch
        begun = self._begun(requests, taken, sampling, None if batch is None else batch.shared)
        return begun if batch is None else batch.joined(begun)

    def _free(self, batch: SideBySide | None) -> int:
        return self.batch_size - (len(batch.rows) if batch else 0)

    def _begun(
        self, requests: Sequence[Request], taken: Sequence[int], sampling: Sampling, shared: bool | None
    ) -> SideBySide:
        """The rows of some requests after a pass over their beginnings. `shared`: as others are that they will join."""
        begun = [np.concatenate([requests[i].prompt, requests[i].prefix]) for i in taken]
        rows = [row for i in taken for row in self._rows_of(i, requests[i], sampling)]
        source = torch.tensor([taken.index(row.request) for row in rows], device=self.model.device)
        ids, mask = _left_padded(begun, self.pad, self.model.device)
        out = self.model(input_ids=ids, attention_mask=mask, position_ids=_positions(mask), use_cache=True,
                         logits_to_keep=1)  # fmt: skip
        cache = out.past_key_values
        if shared is None:
            shared = len(rows) >= 2 * len(begun) and sharable(cache, self.model)
        if shared:
            share(cache, mask, source)
        else:
            cache.batch_select_indices(source)
            make_room(cache)
        return SideBySide(rows, cache, mask[source], out.logits[:, -1][source], shared)

    def _read(self, batch: SideBySide, tokens: Tensor) -> None:
        """One pass over the newest tokens."""
        batch.mask = torch.cat([batch.mask, batch.mask.new_ones(len(batch.mask), 1)], 1)
        out = self.model(input_ids=tokens[:, None], attention_mask=batch.mask, use_cache=True,
                         position_ids=batch.mask.sum(1, keepdim=True) - 1, past_key_values=batch.cache)  # fmt: skip
        batch.cache, batch.logits = out.past_key_values, out.logits[:, -1]

    def _next(self, rows: Sequence[Unfinished], logits: Tensor, sampling: Sampling) -> Tensor:
        """Draws a token for each row and notes it."""
        temperature = sampling.temperature or 1.0
        probs = (logits.float() if temperature == 1 else logits.float() / temperature).softmax(-1)
        if sampling.temperature == 0:
            chosen = logits.argmax(-1)
        else:
            seeds = np.array([row.seed for row in rows], dtype=np.uint64)
            places = np.array([row.begun + len(row.tokens) for row in rows])
            chosen = draw(probs, torch.from_numpy(uniforms(seeds, places)).to(probs.device), sampling)
        of_chosen = probs.gather(1, chosen[:, None]).squeeze(1).log()
        for row, token, logp in zip(rows, chosen.tolist(), of_chosen.tolist(), strict=True):
            row.tokens.append(token)
            row.logps.append(logp)
        return chosen

    def _stop(self, row: Unfinished, sampling: Sampling) -> StopReason | None:
        if row.tokens[-1] in sampling.stop_token_ids:
            return StopReason.EOS
        if sampling.stop_strings and row.strings.found(row.tokens):
            return StopReason.STRING
        return row.last if len(row.tokens) == row.room else None


def queue(requests: Sequence[Request]) -> deque[int]:
    """The longest beginnings first, so that those of like length run together."""
    asked = (i for i, request in enumerate(requests) if request.seeds)
    return deque(sorted(asked, key=lambda i: -len(requests[i].prompt) - len(requests[i].prefix)))


def take(waiting: deque[int], requests: Sequence[Request], room: int) -> Iterator[int]:
    """Requests whose completions find room together."""
    while waiting and len(requests[waiting[0]].seeds) <= room:
        room -= len(requests[waiting[0]].seeds)
        yield waiting.popleft()


def parted(request: Request, rows: int) -> list[Request]:
    """With at most so many completions each."""
    seeds = request.seeds
    if len(seeds) <= rows:
        return [request]
    return [dataclasses.replace(request, seeds=seeds[at : at + rows]) for at in range(0, len(seeds), rows)]


def _left_padded(rows: Sequence[np.ndarray], pad: int, device: Any) -> tuple[Tensor, Tensor]:
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), pad, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, width - len(row) :] = torch.from_numpy(row.astype(np.int64))
        mask[i, width - len(row) :] = 1
    return ids.to(device), mask.to(device)


def _positions(mask: Tensor) -> Tensor:
    return (mask.cumsum(1) - 1).clamp(min=0)
