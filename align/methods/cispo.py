"""CISPO: the importance weight is clipped, the gradient of no token is lost.

MiniMax, "MiniMax-M1: Scaling Test-Time Compute Efficiently with Lightning Attention", 2025, arXiv:2506.13585, eq. 4
and 5:

    A_i  = (reward_i - mean of the group) / (standard deviation of the group + 1e-4)
    loss = -stop_gradient(clip(rho_t, ratio_lower_bound, ratio_upper_bound)) A_i log pi(y_t)

averaged over all tokens of the step; rho_t = pi(y_t) / pi_old(y_t). The bounds are ratios themselves, not distances
from 1.

Metrics: those of every online method, where `clip_fraction` is the share of tokens whose weight the clip has changed.

Departures: the paper's bound is unconfirmed; 5.0 is what "The Art of Scaling Reinforcement Learning Compute for LLMs"
(arXiv:2510.13786) recommends. The standard deviation is Bessel's.
"""

from __future__ import annotations

from dataclasses import dataclass

from align.batches import Rollouts, Sampled
from align.functional.advantages import group_normalised
from align.functional.masked import kept
from align.functional.surrogate import ratio_of
from align.methods.base import Loss, OnlineMethod, Term, drift, per_token, policy_report
from align.system.ranges import OneOrMore, Share


@dataclass(frozen=True, kw_only=True)
class CISPO(OnlineMethod[Rollouts[Sampled]]):
    name = "cispo"
    paper = "arXiv:2506.13585"
    smallest_group = 2

    ratio_lower_bound: Share = 0.0  # least weight of a token
    ratio_upper_bound: OneOrMore = 5.0

    def advantages(self, rollouts: Rollouts[Sampled]) -> Rollouts[Sampled]:
        return per_token(rollouts, group_normalised(rollouts.rewards, rollouts.groups))

    def loss(self, batch: Rollouts[Sampled]) -> Loss:
        completion = batch.completion
        ratio = ratio_of(drift(completion).detach())
        weights = ratio.clamp(self.ratio_lower_bound, self.ratio_upper_bound)
        loss = Loss(Term(-weights * batch.advantages * kept(completion.logps, completion.mask), completion.mask))
        return loss.report(policy_report(batch, weights != ratio))
