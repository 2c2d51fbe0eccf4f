"""The only place where a model runs over given tokens.

`Scorer` is the module that accelerate, DeepSpeed or FSDP prepares, and columns are its forward: under DDP a call to a
submodule would leave gradients unsynchronised without a word. Logits do not leave it. The LM head runs on the
positions that predict a kept completion token, and on no others.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from align.batches import SEQUENCE_COLUMNS
from align.functional.logprobs import logps, statistics
from align.models.parts import backbone, head_gap, head_transform, lm_head, scalar_head, unwrapped, window_layers
from align.models.routers import experts_per_token, router_gap, routing
from align.scoring.attention import model_inputs
from align.scoring.cpu_blocks import enable as enable_blocks
from align.scoring.layout import Rows, occurrences

VALUE_SCALE = 0.1  # of a new value head's outputs
ROUTING = "routing"  # a column of the whole micro-batch: what the routers of a mixture of experts did (3, E)


@dataclass(frozen=True)
class Kernel:
    """How attention and arithmetic are done; part of what a cached column depends on."""

    attention: str  # the attn_implementation that the model was given
    autocast: torch.dtype | None = None  # None computes in the weights' own precision
    own_head: bool = True  # False: the model does more to its logits than is known here, so it is run as a whole


class Scorer(nn.Module):
    """A model that answers with columns instead of logits."""

    def __init__(self, model: nn.Module, kernel: Kernel, *, value_head: bool = False):
        super().__init__()
        enable_blocks(unwrapped(model))
        self.model = model
        self.kernel = kernel
        config = unwrapped(model).config
        self.value = new_value_head(config.get_text_config().hidden_size) if value_head else None
        self.windows = window_layers(config)
        self.transform = head_transform(config)
        there = {type(module).__name__ for module in model.modules()}
        # what accelerate's FSDP asks a model for: the classes of its layers, each a unit to be gathered and let go
        self._no_split_modules = sorted(there & set(getattr(unwrapped(model), "_no_split_modules", None) or ()))

    def forward(
        self, rows: Rows, columns: Sequence[str], num_chunks: int, temperature: float = 1.0
    ) -> dict[str, Tensor]:
        """Columns by name: (N,) for each predicted token in the order of `rows.origin`, (S,) for `scores`."""
        for name, gap in (("head_gap", head_gap), ("router_gap", router_gap)):  # asked for once, at the start
            if name in columns:
                return {name: torch.tensor(gap(self.model, rows.input_ids))}
        with self.precision(rows.input_ids.device):
            made: dict[str, Tensor] = {}
            if ROUTING in columns:
                assert self.kernel.own_head, "a model that is run as a whole makes its own router loss"
                with self.precision(rows.input_ids.device, again=False):
                    out = backbone(self.model)(**self._inputs(rows), output_router_logits=True)
                hidden = out.last_hidden_state
                made[ROUTING] = routing(out, occurrences(rows), experts_per_token(unwrapped(self.model).config))
            else:
                hidden = self._places(rows)
            if "scores" in columns:
                made["scores"] = self._scalar(hidden[rows.last[0], rows.last[1]])
            tokens = tuple(c for c in columns if c not in (*SEQUENCE_COLUMNS, ROUTING))
            if tokens:
                places = hidden[rows.predictor[0], rows.predictor[1]]  # (N, H)
                if "values" in tokens:
                    made["values"] = self._values(places)
                of_logits = tuple(c for c in tokens if c != "values")
                if of_logits:
                    made |= self._from_logits(places, rows, of_logits, num_chunks, temperature)
        return made

    @property
    def computes_in(self) -> torch.dtype:
        """The precision of what the model multiplies."""
        return self.kernel.autocast or next(p.dtype for p in self.parameters() if p.is_floating_point())

    def precision(self, device: torch.device, *, again: bool = True) -> AbstractContextManager[Any]:
        """While this lasts, what the model multiplies is in the recipe's mixed precision. Copies of the weights stay
        for as long, where they are multiplied `again`; else they would only stand there, all of them at the end."""
        if self.kernel.autocast is None:
            return nullcontext()
        return torch.autocast(device.type, dtype=self.kernel.autocast, cache_enabled=again)

    def _places(self, rows: Rows) -> Tensor:
        """(R, L, hidden), or (R, L, V) of a model whose logits are not its head's output."""
        with self.precision(rows.input_ids.device, again=False):
            if self.kernel.own_head:
                return backbone(self.model)(**self._inputs(rows)).last_hidden_state
            return self.model(**self._inputs(rows)).logits

    def _inputs(self, rows: Rows) -> dict[str, Any]:
        return model_inputs(rows, self.windows, self.kernel.attention, self.computes_in)

    def _values(self, places: Tensor) -> Tensor:
        """A critic of its own is a one-label classifier; on the policy's trunk it is a head beside the other."""
        return self._scalar(places) if self.value is None else self.value(places).squeeze(-1).float()

    def _scalar(self, hidden: Tensor) -> Tensor:
        return scalar_head(self.model)(hidden).squeeze(-1).float()

    def _from_logits(
        self, places: Tensor, rows: Rows, columns: tuple[str, ...], num_chunks: int, temperature: float
    ) -> dict[str, Tensor]:
        head = lm_head(self.model) if self.kernel.own_head else nn.Identity()

        def portion(hidden: Tensor, target: Tensor) -> tuple[Tensor, ...]:
            logits = self.transform(head(hidden)) if self.kernel.own_head else hidden
            if columns == ("likely",):  # asked for at the start
                return (drawn(logits),)
            if columns == ("logps",):
                return (logps(logits, target, temperature),)
            found = statistics(logits, target, temperature)._asdict()
            return tuple(found[c] for c in columns)

        # Recomputed in the backward pass when there are several: one portion's logits stand in memory at a time.
        again = num_chunks > 1 and torch.is_grad_enabled()
        made = [
            checkpoint(portion, h, t, use_reentrant=False, preserve_rng_state=False) if again else portion(h, t)
            for h, t in zip(places.tensor_split(num_chunks), rows.target.tensor_split(num_chunks), strict=True)
        ]
        return {c: torch.cat(parts) for c, parts in zip(columns, zip(*made, strict=True), strict=True)}


def new_value_head(hidden_size: int) -> nn.Module:
    """Deterministic, and near zero for hidden states of unit variance."""
    head = nn.Linear(hidden_size, 1)
    with torch.no_grad():
        draw = torch.randn(head.weight.shape, generator=torch.Generator().manual_seed(0))
        head.weight.copy_(draw * VALUE_SCALE / hidden_size**0.5)
        head.bias.zero_()
    return head


def drawn(logits: Tensor) -> Tensor:
    """(N,) a token for each place, by the model's own chances, and the same in every call."""
    chances = logits.float().softmax(-1).nan_to_num(1.0)
    chosen = torch.multinomial(chances.cpu(), 1, generator=torch.Generator().manual_seed(0))  # alike on every device
    return chosen.squeeze(1).to(logits.device)


def scatter(values: Tensor, rows: Rows, shape: tuple[int, int]) -> Tensor:
    """(N,) in the order of the rows to (S, T), zeros elsewhere; differentiable."""
    out = torch.zeros(shape, dtype=values.dtype, device=values.device)
    return out.index_put((rows.origin[0], rows.origin[1]), values)
