"""LOOP: leave-one-out advantages with PPO's ratio and clip, so that an experience serves for several steps.

Chen, Chen, Huang, Kumar, Sumers, Koltun, "Reinforcement Learning for Long-Horizon Interactive LLM Agents", 2025,
arXiv:2502.01600:

    A_i  = reward_i - mean_{j != i} reward_j
    loss = mean_t max(-A_i rho_t, -A_i clip(rho_t, 1 / (1 + clip_range), 1 + clip_range))

rho_t = pi(y_t) / pi_old(y_t); averaged over the tokens of a completion, then over completions. The interval is even
in the logarithm. With `ratio_of: completion` rho is the product over all tokens, the same for each. Completions whose
|A_i| is below `smallest_advantage` are left out, and the mean is over the others.

Metrics: those of every online method.

Departures: the authors' code rounds the number of completions left out so that the rest divides among their workers;
here nothing needs to divide. It also stops an iteration whose KL exceeds 20, which is not done here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from align.batches import Rollouts, Sampled
from align.functional.advantages import leave_one_out
from align.functional.masked import masked_mean, masked_sum
from align.functional.surrogate import clipped_surrogate, is_clipped
from align.methods.base import Loss, OnlineMethod, drift, of_completion, per_token, policy_report
from align.system.ranges import NotNegative, Positive


@dataclass(frozen=True, kw_only=True)
class LOOP(OnlineMethod[Rollouts[Sampled]]):
    name = "loop"
    paper = "arXiv:2502.01600"
    smallest_group = 2  # the baseline is the mean of the others

    ratio_of: Literal["token", "completion"] = "token"  # what has a ratio
    clip_range: Positive = 0.1
    smallest_advantage: NotNegative = 0.01  # weaker completions are not learned from

    def advantages(self, rollouts: Rollouts[Sampled]) -> Rollouts[Sampled]:
        return per_token(rollouts, leave_one_out(rollouts.rewards, rollouts.groups))

    def keep(self, rollouts: Rollouts[Sampled]) -> Tensor:
        return of_completion(rollouts).abs() >= self.smallest_advantage

    def loss(self, batch: Rollouts[Sampled]) -> Loss:
        completion = batch.completion
        log_ratio, low, high = drift(completion), 1 / (1 + self.clip_range), 1 + self.clip_range
        if self.ratio_of == "completion":
            log_ratio = masked_sum(log_ratio, completion.mask)[:, None].expand_as(log_ratio)
        loss = Loss(masked_mean(clipped_surrogate(log_ratio, batch.advantages, low, high), completion.mask))
        return loss.report(policy_report(batch, is_clipped(log_ratio, batch.advantages, low, high)))
