"""A model by itself in this process, which nobody trains: it writes through the local engine, and says how likely
texts are. Its precision and its kernels are those of training."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from align.batches import Tokens
from align.models.frozen import freeze
from align.models.load import writing
from align.models.parts import HEAD_GAP, unwrapped
from align.models.tokenizer import stop_ids
from align.rollout.local.cache_check import cache_finding
from align.rollout.local.engine import LocalEngine
from align.rollout.local.uncached import PlainEngine
from align.rollout.policy_engine import Texts, sharing_prompts, text_of
from align.scoring.layout import lay_out
from align.scoring.probe import probe
from align.scoring.score import Kernel, Scorer, scatter
from align.world.distributed import precision_of


class Alone:
    """A causal model and its tokenizer; `max_rows` texts are written or read side by side. `readable` makes texts of
    tokens where that is not the tokenizer's own way."""

    def __init__(self, model: Any, tokenizer: Any, max_rows: int, readable: Texts | None = None):
        self.tokenizer, self.max_rows = tokenizer, max_rows
        self.readable: Texts = readable or tokenizer
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        autocast = torch.bfloat16 if precision_of("auto", self.device) == "bf16" else None
        attention = str(getattr(unwrapped(model).config, "_attn_implementation", "eager"))
        scorer = Scorer(freeze(model).to(self.device), Kernel(attention, autocast)).eval().requires_grad_(False)
        rows = lay_out(probe(unwrapped(model).config.get_text_config().vocab_size), "padded").to(self.device)
        with torch.no_grad():  # some models do more to their logits than is known
            gap = float(scorer(rows, ("head_gap",), 1)["head_gap"])
        scorer.kernel = replace(scorer.kernel, own_head=gap < HEAD_GAP)
        self.scorer = scorer

    @property
    def model(self) -> Any:
        return self.scorer.model

    @functools.cached_property
    def stops(self) -> tuple[int, ...]:
        """Tokens that end a completion."""
        return stop_ids(self.tokenizer, unwrapped(self.model))

    def decode(self, ids: Any) -> str:
        return text_of(self.readable, ids)

    @contextmanager
    def engine(self) -> Iterator[LocalEngine]:
        """As in training: a cache shared by a prompt's completions, where that is right for this model."""
        with self._ready():
            yield self._kind(self.model, self.tokenizer.pad_token_id, self.decode, self.max_rows, refill=True)

    @torch.no_grad()
    def logps(self, rows: Sequence[Tokens]) -> list[float]:
        """log pi(completion | prompt) of each, in nats, summed over its tokens; rows of like length together."""
        order = sorted(range(len(rows)), key=lambda i: -len(rows[i]))
        found = [0.0] * len(rows)
        for start in range(0, len(order), self.max_rows):
            picked = order[start : start + self.max_rows]
            laid = lay_out([[rows[i]] for i in picked], "padded").to(self.device)
            shape = (len(picked), max(len(rows[i].completion) for i in picked))
            made = self.scorer(laid, ("logps",), 1)["logps"].float()
            for i, value in zip(picked, scatter(made, laid, shape).double().sum(1).tolist(), strict=True):
                found[i] = value
        return found

    @functools.cached_property
    def _kind(self) -> type[LocalEngine]:
        with self._ready():
            return PlainEngine if cache_finding(self.scorer) else LocalEngine

    @contextmanager
    def _ready(self) -> Iterator[None]:
        precision = self.scorer.precision(self.device)
        with torch.no_grad(), precision, writing(self.model), sharing_prompts(unwrapped(self.model)):
            yield
