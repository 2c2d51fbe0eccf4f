"""Group sequence policy optimisation: GRPO with one length-normalised ratio per completion.

Zheng et al., "Group Sequence Policy Optimization", 2025, arXiv:2507.18071, eq. 5 and 7:

    s_i  = exp(mean_t [log pi(y_t) - log pi_old(y_t)])
    A_i  = (reward_i - mean of the group) / (standard deviation of the group + 1e-4)
    loss = max(-A_i s_i, -A_i clip(s_i, 1 - clip_low, 1 + clip_high))

averaged over completions. The clip ranges are two orders of magnitude smaller than a token's, and it clips far more.

Metrics: those of every online method, where `clip_fraction` is the share of completions whose gradient the clip has
taken.

Departures: the paper's token-level variant is equal in value and gradient where the advantage is one per completion, as
it is here, and is not offered. The standard deviation is Bessel's.
"""

from __future__ import annotations

from dataclasses import dataclass

from align.batches import Rollouts, Sampled
from align.functional.advantages import group_normalised
from align.functional.masked import masked_mean
from align.functional.surrogate import clipped_surrogate, is_clipped
from align.methods.base import (
    OF_COMPLETIONS,
    Loss,
    OnlineMethod,
    drift,
    of_completion,
    per_token,
    policy_report,
)
from align.system.ranges import Positive


@dataclass(frozen=True, kw_only=True)
class GSPO(OnlineMethod[Rollouts[Sampled]]):
    name = "gspo"
    paper = "arXiv:2507.18071"
    smallest_group = 2

    clip_low: Positive = 3e-4  # how far below 1 a ratio still teaches
    clip_high: Positive = 4e-4  # likewise above

    @property
    def correction_levels(self) -> tuple[str, ...]:
        return OF_COMPLETIONS

    def advantages(self, rollouts: Rollouts[Sampled]) -> Rollouts[Sampled]:
        return per_token(rollouts, group_normalised(rollouts.rewards, rollouts.groups))

    def loss(self, batch: Rollouts[Sampled]) -> Loss:
        completion, advantages = batch.completion, of_completion(batch)
        log_ratio = masked_mean(drift(completion), completion.mask)
        low, high = 1 - self.clip_low, 1 + self.clip_high
        loss = Loss(clipped_surrogate(log_ratio, advantages, low, high))
        return loss.report(policy_report(batch, is_clipped(log_ratio, advantages, low, high)))
