"""Writing with the training model itself.

Each different beginning (prompt and prefix) runs through the model once; its keys and values are then shared by its
completions, or repeated for them where they cannot be. A row leaves the batch when it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from align.rollout.draws import draw, uniforms
from align.rollout.engine import Request, Sampling, StopReason, Written, room_of
from align.rollout.roomy_cache import make_room
from align.rollout.shared_prompts import share

Decode = Callable[[Sequence[int]], str]


@dataclass
class Row:
    """A completion on its way."""

    request: int  # which request, and which of its completions
    place: int
    seed: int
    begun: int  # tokens of the prefix
    room: int  # new tokens it may still have
    last: StopReason  # why it stops when there is no room
    tokens: list[int] = field(default_factory=list)
    logps: list[float] = field(default_factory=list)


class LocalEngine:
    """A transformers model in this process."""

    def __init__(self, model: Any, pad_token_id: int, decode: Decode, batch_size: int, version: int = 0):
        self.model, self.pad, self.decode, self.batch_size, self.version = (
            model,
            pad_token_id,
            decode,
            batch_size,
            version,
        )

    @torch.no_grad()
    def write(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Written]]:
        answers: list[list[Written | None]] = [[None] * len(r.seeds) for r in requests]
        for portion in portions(requests, self.batch_size):
            for row, stop in self._portion(requests, portion, sampling):
                tokens, logps = np.array(row.tokens, dtype=np.int32), np.array(row.logps, dtype=np.float32)
                answers[row.request][row.place] = Written(tokens, logps, stop, self.version)
        return [[w for w in written if w is not None] for written in answers]

    def _portion(
        self, requests: Sequence[Request], portion: Sequence[int], sampling: Sampling
    ) -> Iterator[tuple[Row, StopReason]]:
        begun = [np.concatenate([requests[i].prompt, requests[i].prefix]) for i in portion]
        rows = [row for i in portion for row in rows_of(i, requests[i], sampling)]
        source = torch.tensor([portion.index(row.request) for row in rows], device=self.model.device)
        ids, mask = _left_padded(begun, self.pad, self.model.device)
        out = self.model(input_ids=ids, attention_mask=mask, position_ids=_positions(mask), use_cache=True,
                         logits_to_keep=1)  # fmt: skip
        cache, logits = out.past_key_values, out.logits[:, -1][source]
        if not share(cache, mask, source, self.model):
            cache.batch_select_indices(source)
            make_room(cache)
        mask = mask[source]
        while rows:
            tokens = self._next(rows, logits, sampling)
            stops = [self._stop(row, sampling) for row in rows]
            yield from ((row, stop) for row, stop in zip(rows, stops, strict=True) if stop)
            if any(stops):
                kept = [i for i, stop in enumerate(stops) if not stop]
                rows = [rows[i] for i in kept]
                if not rows:
                    return
                chosen = torch.tensor(kept, device=mask.device)
                tokens, mask = tokens[chosen], mask[chosen]
                cache.batch_select_indices(chosen)
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
            out = self.model(input_ids=tokens[:, None], attention_mask=mask, position_ids=mask.sum(1, keepdim=True) - 1,
                             past_key_values=cache, use_cache=True)  # fmt: skip
            cache, logits = out.past_key_values, out.logits[:, -1]

    def _next(self, rows: Sequence[Row], logits: Tensor, sampling: Sampling) -> Tensor:
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

    def _stop(self, row: Row, sampling: Sampling) -> StopReason | None:
        if row.tokens[-1] in sampling.stop_token_ids:
            return StopReason.EOS
        if sampling.stop_strings and any(s in self.decode(row.tokens) for s in sampling.stop_strings):
            return StopReason.STRING
        return row.last if len(row.tokens) == row.room else None


def portions(requests: Sequence[Request], batch_size: int) -> Iterator[list[int]]:
    """Requests of like length together, so many that they have at most `batch_size` completions (or one request)."""
    held: list[int] = []
    for i in sorted(range(len(requests)), key=lambda i: -len(requests[i].prompt) - len(requests[i].prefix)):
        if held and sum(len(requests[k].seeds) for k in (*held, i)) > batch_size:
            yield held
            held = []
        held.append(i)
    if held:
        yield held


def rows_of(index: int, request: Request, sampling: Sampling) -> list[Row]:
    room, last = room_of(request, sampling)
    return [Row(index, place, seed, len(request.prefix), room, last) for place, seed in enumerate(request.seeds)]


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
