"""What of an experience is worth learning from."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
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
