"""Every completion against each other one of the same prompt.

What is made of pairs is told per completion, as the mean over its partners, so that a mean over completions is a mean
over unordered pairs where groups are of one size, and the rows of a step may be counted as they always are.
"""

from __future__ import annotations

from jaxtyping import Bool, Float, Int
from torch import Tensor


def partners(groups: Int[Tensor, " B"]) -> Bool[Tensor, "B B"]:
    """Whether j is another completion of the prompt of i."""
    same = groups[:, None] == groups[None, :]
    return same & ~same.new_ones(len(groups)).diag().bool()


def differences(values: Float[Tensor, " B"], paired: Bool[Tensor, "B B"]) -> Float[Tensor, "B B"]:
    """values_i - values_j of each pair, 0 elsewhere."""
    return (values[:, None] - values[None, :]).masked_fill(~paired, 0.0)


def pair_means(values: Float[Tensor, "B B"], paired: Bool[Tensor, "B B"]) -> Float[Tensor, " B"]:
    """Of each completion over its partners; 0 for one that has none."""
    return values.masked_fill(~paired, 0.0).sum(-1) / paired.sum(-1).clamp(min=1)
