"""Policy gradients of preference games, which pay for KL. Everything here is a constant to the gradient."""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from align.functional.advantages import final_rewards, rewards_to_go
from align.functional.masked import kept

EVEN = 0.5  # how often a policy beats itself


def gains_by_scores(scores: Float[Tensor, " B"], groups: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
    """p - 1/2, p the mean of sigmoid(s_i - s_j) over all j of the group, i itself among them, where it is 1/2.

    Over a group these sum to 0 (arXiv:2405.00675; the authors' `compute_prob.py`).
    """
    found = torch.zeros_like(scores)
    order, ends = groups.argsort(stable=True), torch.bincount(groups).cumsum(0)
    for start, stop in pairwise([0, *map(int, ends)]):  # group by group: all pairs of all groups would be too many
        rows = order[start:stop]
        found[rows] = ((scores[rows, None] - scores[rows]).sigmoid() - EVEN).mean(-1)
    return found


def gains_by_rates(rates: Float[Tensor, " B"], groups: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
    """The same p - 1/2, of how often each beats the others of its group, which the even game against itself joins."""
    size = torch.bincount(groups)[groups]
    return (rates - EVEN) * (size - 1) / size


def win_advantages(
    won: Float[Tensor, " B"],
    charged: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
) -> Float[Tensor, "B T"]:
    """Per kept token, what a completion wins beyond an even game, less the KL of this token and of all later ones.

        A_t = won - 1/2 - sum_{s >= t} charged_s

    `won`: how often the completion beats its opponents. `charged` is what its log-ratios cost, such as
    beta (log pi - log ref), or as much again for a second neighbour. -A_t log pi(y_t), summed over tokens, has the
    exact gradient of the game as its mean (arXiv:2505.19731, arXiv:2312.00886); with charged_t alone it has not, but
    for the last token. 0 where nothing is kept.
    """
    return rewards_to_go(final_rewards(won - EVEN, mask) - kept(charged, mask), mask)
