"""What of an experience is worth learning from."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def most_varied(values: Float[Tensor, " B"], count: int) -> Bool[Tensor, " B"]:
    """The `count` values with the largest variance (D3S, arXiv:2509.22115; divided by their number).

    The best ones are some of the lowest and the rest of the highest, so all splits are tried. Of equals the first; of
    splits that do equally well, that with the fewest low ones.
    """
    order = torch.argsort(values, stable=True)
    ranked = values[order].double()
    low = torch.arange(count + 1)
    both = torch.stack([ranked, ranked**2])
    sums = torch.cat([both.new_zeros(2, 1), both.cumsum(-1)], -1)
    total, squares = sums[:, low] + sums[:, -1:] - sums[:, len(values) - count + low]
    lowest = int((squares / max(count, 1) - (total / max(count, 1)) ** 2).argmax())
    chosen = torch.zeros_like(values, dtype=torch.bool)
    chosen[order[:lowest]] = True
    down = torch.argsort(values, descending=True, stable=True)
    chosen[down[~chosen[down]][: count - lowest]] = True
    return chosen


def largest(scores: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"], share: float) -> Bool[Tensor, "B T"]:
    """The kept tokens with the largest scores, `share` of them, rounded up; of equals the first."""
    count = math.ceil(share * int(mask.sum()) - 1e-9)  # a share of 0.2 of 10 is 2, whatever floats make of it
    ranked = torch.argsort(scores.masked_fill(~mask, -math.inf).flatten(), descending=True, stable=True)
    chosen = torch.zeros(mask.numel(), dtype=torch.bool)
    chosen[ranked[:count]] = True
    return chosen.view(mask.shape) & mask


def best_against_worst(
    values: Float[Tensor, " B"], groups: Int[Tensor, " B"]
) -> tuple[Bool[Tensor, " B"], Int[Tensor, " B"]]:
    """Which rows are the best of their groups, and the row that each is compared with: of a best one the worst of its
    group, of any other itself. Of equals the first; a group whose rows are all equal has no best one."""
    rows = torch.arange(len(values), device=values.device)
    first, last, apart = _ends(values, groups)
    best = apart & (first == rows)
    return best, torch.where(best, last, rows)


def with_worst(best: Bool[Tensor, " B"], against: Int[Tensor, " B"]) -> Bool[Tensor, " B"]:
    """Both rows of each pair that `best_against_worst` has found."""
    both = best.clone()
    both[against[best]] = True
    return both


def _ends(
    values: Float[Tensor, " B"], groups: Int[Tensor, " B"]
) -> tuple[Int[Tensor, " B"], Int[Tensor, " B"], Bool[Tensor, " B"]]:
    """For each row the first of the best and of the worst rows of its group, and whether these differ in value."""
    count = int(groups.max()) + 1 if len(groups) else 0  # a rank that has no rows is asked, too
    rows = torch.arange(len(values), device=values.device)

    def of_group(source: Tensor, how: str, start: float | int) -> Tensor:
        return source.new_full((count,), start).scatter_reduce(0, groups, source, how)[groups]

    highest, lowest = of_group(values, "amax", -math.inf), of_group(values, "amin", math.inf)
    beyond = len(values)
    best, worst = (of_group(torch.where(values == end, rows, beyond), "amin", beyond) for end in (highest, lowest))
    return best, worst, highest > lowest
