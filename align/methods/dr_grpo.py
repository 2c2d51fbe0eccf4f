"""Dr. GRPO: GRPO without the two normalisations that favour short right and long wrong answers.

Liu, Chen, Li, Qi, Pang, Du, Lee, Lin, "Understanding R1-Zero-Like Training: A Critical Perspective", 2025,
arXiv:2503.20783:

    A_i  = reward_i - mean of the group
    loss = (1 / constant_length) sum_t max(-A_i rho_t, -A_i clip(rho_t, 1 - clip_range, 1 + clip_range))

averaged over completions; rho_t = pi(y_t) / pi_old(y_t). The divisor is the same for every completion, whatever its
length: the most tokens that one may have, so a recipe without `constant_length` takes `rollout.max_completion_length`.

Metrics: those of every online method.

Departures: none known; the paper has no KL term.
"""

from __future__ import annotations

from dataclasses import dataclass

from align.batches import Rollouts, Sampled
from align.functional.advantages import group_means
from align.functional.masked import masked_sum
from align.functional.surrogate import clipped_surrogate, is_clipped
from align.methods.base import Loss, OnlineMethod, drift, follows, per_token, policy_report
from align.system.ranges import AtLeastOne, Positive


@dataclass(frozen=True, kw_only=True)
class DrGRPO(OnlineMethod[Rollouts[Sampled]]):
    name = "dr_grpo"
    paper = "arXiv:2503.20783"
    smallest_group = 2

    clip_range: Positive = 0.2  # how far from 1 a ratio still teaches
    constant_length: AtLeastOne = follows("rollout.max_completion_length", 3000)  # tokens; 3000 is the paper's own

    def advantages(self, rollouts: Rollouts[Sampled]) -> Rollouts[Sampled]:
        return per_token(rollouts, rollouts.rewards - group_means(rollouts.rewards, rollouts.groups))

    def loss(self, batch: Rollouts[Sampled]) -> Loss:
        completion = batch.completion
        log_ratio, low, high = drift(completion), 1 - self.clip_range, 1 + self.clip_range
        losses = clipped_surrogate(log_ratio, batch.advantages, low, high)
        loss = Loss(masked_sum(losses, completion.mask) / self.constant_length)
        return loss.report(policy_report(batch, is_clipped(log_ratio, batch.advantages, low, high)))
