"""TGDPO: DPO in which each token counts by the reward that a preference-trained guide gives it.

Zhu, Chen, Wang, Yu, Zhao, Jia, "TGDPO: Harnessing Token-Level Reward Guidance for Enhancing Direct Preference
Optimization", 2025, arXiv:2506.14574, as in the authors' code (its `sigmoid` branch, the only one that is right there):

    r_t = beta * [log pi_guide(y_t) - log pi_ref(y_t)]          the guide's reward of a token, a constant
    f_t = 1 + alpha * r_t in chosen, 1 - alpha * r_t in rejected answers
    loss = -log sigmoid(sum_t beta f_t d_t over chosen - sum_t beta f_t d_t over rejected)
    d_t = log pi(y_t) - log pi_ref(y_t)

summed over completion tokens, averaged over pairs. A token that the guide likes moves further in a chosen answer and
less far in a rejected one. The guide (`model.roles: {guide: FOLDER}`) is a model that has been trained on preferences,
by DPO or SimPO, from the same start as the policy, with the same template; stop its training early. The reference must
be what the guide started from, or r_t holds the difference between two starts, too. At alpha 0, or with a guide that is
the reference, it is DPO; at alpha 0 none need be named.

Metrics: those of every method over pairs, of rewards that are not weighed; `chosen_weight` and `rejected_weight` mean
f_t per token, `smallest_weight` the least f_t of a pair, `negative_weights` share of tokens with f_t below 0, before
`f_min`: the theory wants none; `guide_accuracy` share of pairs that the guide's summed rewards order as they are
labelled, `guide_margin` their difference.

Departures: `f_min` (none, as in the code; 0 keeps what a negative weight would push the wrong way at rest) is ours. The
code has one beta for the loss and for r_t, also where the guide was trained with another, and so has this: a larger
beta makes f_t larger, too. The paper's grid of learning rates, and what exactly it assumes of f, are unconfirmed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from align.batches import Pairs, Referenced
from align.functional.masked import kept, masked_sum
from align.functional.preference import log_ratio
from align.methods.base import Loss, OfflineMethod, Term, metric, pair_report, weight
from align.system.ranges import NotNegative, Positive, Share


@dataclass(frozen=True, kw_only=True)
class Guided(Referenced):
    """With the log-probabilities of a model that was trained on preferences."""

    guide_logps: Float[Tensor, "B T"]


@dataclass(frozen=True, kw_only=True)
class TGDPO(OfflineMethod[Pairs[Guided]]):
    name = "tgdpo"
    paper = "arXiv:2506.14574"

    beta: Positive = 0.1  # how dearly the policy pays for leaving the reference; also the unit of the guide's rewards
    alpha: NotNegative = weight(0.5, of="guide")  # how much a token's weight follows its reward
    f_min: Share | None = None  # the least weight of a token; null: none

    def loss(self, batch: Pairs[Guided]) -> Loss:
        chosen, rejected = batch.chosen, batch.rejected
        f_w, f_l = self._weights(chosen, self.alpha), self._weights(rejected, -self.alpha)
        u_w, u_l = (log_ratio(m.logps, m.ref_logps, m.mask) for m in (chosen, rejected))
        loss = Loss(-F.logsigmoid(self.beta * (self._weighed(chosen, f_w) - self._weighed(rejected, f_l))))
        return loss.report({**pair_report(batch, self.beta * u_w, self.beta * u_l), **self._report(batch, f_w, f_l)})

    def _weights(self, member: Guided, alpha: float) -> Tensor:
        """(B, T): f_t as it is, 1 where nothing is kept."""
        reward = self.beta * kept(member.guide_logps - member.ref_logps, member.mask).detach()
        return 1 + alpha * reward

    def _weighed(self, member: Guided, weights: Tensor) -> Tensor:
        """(B,): sum_t f_t d_t."""
        weights = weights if self.f_min is None else weights.clamp(min=self.f_min)
        return masked_sum(weights * kept(member.logps - member.ref_logps, member.mask), member.mask)

    def _report(self, batch: Pairs[Guided], f_w: Tensor, f_l: Tensor) -> dict[str, Tensor | Term]:
        chosen, rejected = batch.chosen, batch.rejected
        of_guide = [self.beta * log_ratio(m.guide_logps, m.ref_logps, m.mask) for m in (chosen, rejected)]
        flags, masks = torch.cat([f_w < 0, f_l < 0], -1), torch.cat([chosen.mask, rejected.mask], -1)
        return {
            "chosen_weight": metric(f_w, chosen.mask),
            "rejected_weight": metric(f_l, rejected.mask),
            "smallest_weight": torch.minimum(f_w.amin(-1), f_l.amin(-1)),
            "negative_weights": metric(flags, masks),
            "guide_accuracy": (of_guide[0] > of_guide[1]).float(),
            "guide_margin": of_guide[0] - of_guide[1],
        }
