"""Proximal supervised fine-tuning: SFT that lets go of a token once it has become likely enough.

Zhu, Xie, Wang, Sun, Wang, Liu, "Proximal Supervised Fine-Tuning", 2025, arXiv:2508.17784. SFT is read as a policy
gradient whose advantage is 1 on every token of a demonstration, and is given the clip of PPO:

    loss = -(1 / N) sum_b sum_t min(rho_bt, 1 + clip_high),    rho = pi(y) / pi_old(y),    N = loss tokens of the step

where pi_old is the policy as it was before the experience, `training.num_minibatches` steps of `training.batch_size`
rows (8 where the recipe does not say). The gradient of a token is rho times that of SFT up to the bound and 0 beyond
it; a token that has become less likely pulls less than in SFT. The advantage is never negative, so that the lower bound
of PPO would never act, and there is none.

The first step on an experience is always one of SFT, for rho is 1 in it; with a single minibatch all of them are, and
the method is SFT. The loss is no likelihood: it is -1 where rho is 1, and so on all held-out rows, which have no
experience. Watch `nll`.

Metrics: `nll` what SFT would minimise, `entropy` mean entropy (nats) of the predictive distribution over loss tokens,
`token_accuracy` share of loss tokens that were the likeliest ones, `ratio` mean rho, `largest_ratio` mean over rows of
the largest rho of a row, `clip_fraction` share of tokens beyond the bound, `k1` mean log pi_old - log pi.

Departures: the authors' code leaves the demonstration without an end token and takes the mean within each device's
micro-batch; here the end is learned and a token counts the same wherever it stands. The warm-up by SFT is in the paper
and not in the code: `warmup_experiences` counts it in experiences. The log-ratio is held at 20 for finiteness. The
numbers of the paper's equations are unconfirmed. The authors take a twentieth of SFT's learning rate: compare with SFT
at the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from align.batches import Demonstrations, Watched
from align.functional.masked import kept
from align.functional.surrogate import clipped_surrogate, ratio_of
from align.methods.base import Loss, OfflineMethod, aggregated, metric, remembered
from align.system.ranges import Count, NotNegative


@dataclass(frozen=True, kw_only=True)
class Dated(Watched):
    """With the log-probabilities of the policy before the experience."""

    old_logps: Float[Tensor, "B T"]


@dataclass(frozen=True, kw_only=True)
class PSFT(OfflineMethod[Demonstrations[Dated]]):
    name = "psft"
    paper = "arXiv:2508.17784"
    usual_rate = 1e-6
    usual_minibatches = 8
    compared_by = "nll"

    clip_high: NotNegative = 0.28  # by how much of itself a token may become likelier within an experience
    warmup_experiences: Count = 0  # so many are learned from as SFT does, before the clip begins
    aggregation: Literal["token_mean", "sequence_mean", "sequence_sum"] = "token_mean"
    num_seen: float = remembered()  # experiences so far

    def controllers(self, batch: Demonstrations[Dated]) -> dict[str, float]:
        return {"num_seen": self.num_seen + 1}

    def loss(self, batch: Demonstrations[Dated]) -> Loss:
        tokens, mask = batch.completion, batch.completion.mask
        gap = kept(tokens.logps - tokens.old_logps, mask)
        losses = clipped_surrogate(gap, torch.ones_like(gap), 0.0, 1 + self.clip_high)
        if self.num_seen < self.warmup_experiences:
            losses = -kept(tokens.logps, mask)
        ratio = ratio_of(gap.detach())
        return Loss(
            aggregated(losses, mask, self.aggregation),
            nll=metric(-tokens.logps, mask),
            entropy=metric(tokens.entropies, mask),
            token_accuracy=metric(tokens.hits, mask),
            ratio=metric(ratio, mask),
            largest_ratio=metric(ratio.masked_fill(~mask, 0.0).amax(-1), mask.any(-1)),
            clip_fraction=metric(ratio > 1 + self.clip_high, mask),
            k1=metric(-gap, mask),
        )
