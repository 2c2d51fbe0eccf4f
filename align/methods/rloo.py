"""REINFORCE with a leave-one-out baseline.

Ahmadian, Cremer, Galle, Fadaee, Kreutzer, Pietquin, Ustun, Hooker, "Back to Basics: Revisiting REINFORCE-Style
Optimization for Learning from Human Feedback in LLMs", 2024, arXiv:2402.14740, eq. 8 (the estimator is that of Kool,
van Hoof, Welling, 2019). A whole completion is one action; of k completions of a prompt,

    R_i  = reward_i - kl_coef * sum_t [log pi_old(y_t) - log pi_ref(y_t)]
    A_i  = R_i - mean_{j != i} R_j
    r_i  = exp(sum_t [log pi(y_t) - log pi_old(y_t)])
    loss = max(-A_i r_i, -A_i clip(r_i, 1 - clip_range, 1 + clip_range))

averaged over completions. With one step per experience r = 1 and the gradient is -A_i grad log pi(y_i): the paper's.

Metrics: those of every online method, where `clip_fraction` is the share of completions whose gradient the clip has
taken.

Departures: the ratio and its clip, without effect at one step per experience, are what several steps need.
"""

from __future__ import annotations

from dataclasses import dataclass

from align.batches import Anchored, Rollouts
from align.functional.advantages import leave_one_out
from align.functional.surrogate import clipped_surrogate, is_clipped
from align.methods.base import (
    OF_COMPLETIONS,
    Loss,
    OnlineMethod,
    drift,
    kl_charged,
    of_completion,
    per_token,
    policy_report,
    weight,
)
from align.system.ranges import NotNegative, Positive


@dataclass(frozen=True, kw_only=True)
class RLOO(OnlineMethod[Rollouts[Anchored]]):
    name = "rloo"
    paper = "arXiv:2402.14740"
    smallest_group = 2  # the baseline is the mean of the others

    kl_coef: NotNegative = weight(0.05, of="old ref")  # what a nat of divergence from the reference costs, in reward
    clip_range: Positive = 0.2  # of the ratio of whole completions

    @property
    def correction_levels(self) -> tuple[str, ...]:
        return OF_COMPLETIONS

    def advantages(self, rollouts: Rollouts[Anchored]) -> Rollouts[Anchored]:
        return per_token(rollouts, leave_one_out(kl_charged(rollouts, self.kl_coef), rollouts.groups))

    def loss(self, batch: Rollouts[Anchored]) -> Loss:
        completion, advantages = batch.completion, of_completion(batch)
        log_ratio = drift(completion).sum(-1)
        low, high = 1 - self.clip_range, 1 + self.clip_range
        loss = Loss(clipped_surrogate(log_ratio, advantages, low, high))
        return loss.report(policy_report(batch, is_clipped(log_ratio, advantages, low, high)))
