"""Batches made of plain tensors, and the one way to reduce a loss: shared by the tests of methods."""

from __future__ import annotations

from typing import Any, get_type_hints

import torch
from torch import Tensor

from align.batches import SEQUENCE_COLUMNS
from align.methods.base import Loss, OnlineMethod
from align.needs import Needs, blank, columns, rebuilt

Tensors = dict[str, Tensor]  # "chosen.logps", "chosen.mask", "margins", ...


build = rebuilt


def random_tensors(
    needs: Needs, rows: int, width: int, *, dtype: torch.dtype = torch.float64, seed: int = 0
) -> Tensors:
    """Plausible numbers for every column; live ones are leaves. Each row keeps at least one token of each member."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64).to(dtype)

    made: Tensors = {}
    for number, (member, kind) in enumerate(needs.members.items()):
        shape = (rows, width + number)  # members of different width
        mask = uniform(*shape) > 0.4
        mask[:, 1] = True
        made[f"{member}.mask"] = mask
        for column in columns(kind):
            if column == "hits":
                values = uniform(*shape) > 0.5
            elif column in SEQUENCE_COLUMNS:
                values = 4 * uniform(rows) - 2
            else:
                values = 5 * uniform(*shape) * (1 if column == "entropies" else -1)
            made[f"{member}.{column}"] = values.requires_grad_(column in needs.live(member) and column != "hits")
    hints = get_type_hints(needs.batch)
    for field in needs.rows:
        kind = blank(hints[field], 0, 0).dtype
        numbers = torch.arange(rows)
        made[field] = numbers % 2 == 0 if kind == torch.bool else numbers // 2 if kind == torch.int64 else uniform(rows)
    for field in needs.prepared:
        empty = blank(hints[field], rows, width)
        whole = torch.arange(1, empty.numel() + 1).view_as(empty)  # numbered, as states are
        made[field] = whole if empty.dtype == torch.int64 else empty if empty.dtype == torch.bool else empty.to(dtype)
    return made


def ready(method: Any, batch: Any) -> Any:
    """The batch with what the method itself prepares."""
    return method.advantages(batch) if isinstance(method, OnlineMethod) else method.prepare(batch)


def live(needs: Needs, tensors: Tensors) -> Tensors:
    """The leaves: columns with gradient."""
    names = [f"{m}.{c}" for m in needs.members for c in needs.live(m)]
    return {name: tensors[name] for name in names if tensors[name].requires_grad}


def sums(loss: Loss) -> dict[str, tuple[Tensor, int, float]]:
    """Per term: the sum over what its mask keeps, how many that are, its weight."""
    made: dict[str, tuple[Tensor, int, float]] = {}
    for name, term in loss.terms.items():
        mask = torch.ones_like(term.values, dtype=torch.bool) if term.mask is None else term.mask
        made[name] = (term.values.masked_fill(~mask, 0.0).sum(), int(mask.sum()), term.weight)
    return made


def objective(loss: Loss) -> Tensor:
    """The number that is minimised: the sum of weight times mean over the terms that have a weight."""
    return torch.stack([weight * total / count for total, count, weight in sums(loss).values() if weight]).sum()


def value(loss: Loss) -> float:
    return float(objective(loss).detach())


def mean_of(loss: Loss, term: str) -> float:
    total, count, _ = sums(loss)[term]
    return float(total.detach()) / count


def pairs(chosen: list[list[float]], rejected: list[list[float]]) -> Tensors:
    """Float64 log-ratios as pairs of everywhere kept tokens: the reference's log-probabilities are all -1."""
    made: Tensors = {}
    for member, ratios in {"chosen": chosen, "rejected": rejected}.items():
        u = torch.tensor(ratios, dtype=torch.float64)
        made[f"{member}.mask"] = torch.ones_like(u, dtype=torch.bool)
        made[f"{member}.ref_logps"] = torch.full_like(u, -1.0)
        made[f"{member}.logps"] = (u - 1).requires_grad_()
    return made
