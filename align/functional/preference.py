"""Quantities that many preference methods share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from align.functional.masked import masked_sum


def log_ratio(
    logps: Float[Tensor, "B T"], ref_logps: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]
) -> Float[Tensor, " B"]:
    """u = log pi(y|x) - log pi_ref(y|x), summed over kept tokens (arXiv:2305.18290, eq. 5, without beta)."""
    return masked_sum(logps - ref_logps, mask)


def logistic_loss(logits: Float[Tensor, " B"], labels: Float[Tensor, " B"] | float) -> Float[Tensor, " B"]:
    """-q log sigmoid(x) - (1 - q) log sigmoid(-x): the cross-entropy of logit x against the label q.

    q = 1 is Bradley-Terry. Outside [0, 1] it is no cross-entropy any more, but still the estimate that undoes label
    noise (arXiv:2403.00409).
    """
    return -labels * F.logsigmoid(logits) - (1 - labels) * F.logsigmoid(-logits)


def identity_loss(
    margins: Float[Tensor, " B"], labels: Float[Tensor, " B"] | float, beta: float
) -> Float[Tensor, " B"]:
    """(h - (q - 1/2) / beta)^2, h the difference of two completions' log-ratios (arXiv:2310.12036, eq. 17).

    q is the probability that the first is better; 1 is IPO. In pairs that the policy draws itself, of summed log-ratios
    and soft labels, the gradient is that of self-play times -4 / beta (arXiv:2403.08635).
    """
    return (margins - (labels - 0.5) / beta) ** 2


def self_play_loss(
    log_ratios: Float[Tensor, " B"], gains: Float[Tensor, " B"] | float, beta: float
) -> Float[Tensor, " B"]:
    """(u - (p - 1/2) / beta)^2 of each completion, whose log-ratio is u (arXiv:2405.00675, log Z taken as 1/2 / beta).

    `gains` are p - 1/2: how much more often than every other time a completion wins against the policy that wrote it.
    """
    return (log_ratios - gains / beta) ** 2


def log_odds(logps: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
    """log(p / (1 - p)) for p = exp(logps) (arXiv:2403.07691, eq. 4).

    A log-probability that has been rounded to 0 is taken for the largest one below, without gradient: 1 - p would be 0.
    """
    logps = logps.clamp(max=-torch.finfo(logps.dtype).eps)
    return logps - torch.log(-torch.expm1(logps))


def pair_metrics(chosen_rewards: Float[Tensor, " B"], rejected_rewards: Float[Tensor, " B"]) -> dict[str, Tensor]:
    """What every method over pairs reports, (B,) each: accuracy (a tie is a miss), margin, the two rewards."""
    return {
        "accuracy": (chosen_rewards > rejected_rewards).float(),
        "margin": chosen_rewards - rejected_rewards,
        "chosen_rewards": chosen_rewards,
        "rejected_rewards": rejected_rewards,
    }
