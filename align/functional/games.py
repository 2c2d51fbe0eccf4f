"""Policy gradients of preference games, which pay for KL. Everything here is a constant to the gradient."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor

from align.functional.advantages import final_rewards, rewards_to_go
from align.functional.masked import kept

EVEN = 0.5  # how often a policy beats itself


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
