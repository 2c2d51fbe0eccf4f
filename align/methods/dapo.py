"""DAPO: GRPO with a higher upper clip, token-level averaging and dynamic sampling.

Yu et al., "DAPO: An Open-Source LLM Reinforcement Learning System at Scale", 2025, arXiv:2503.14476, eq. 8 to 12:

    A_i  = (reward_i - mean of the group) / (standard deviation of the group + 1e-4)
    loss = max(-A_i rho_t, -A_i clip(rho_t, 1 - clip_low, 1 + clip_high)),   rho_t = pi(y_t) / pi_old(y_t)

averaged over all tokens of the step. Groups whose answers all earned the same (eq. 11: all right, or all wrong) are
left out, and the loop writes more in their place (`rollout.max_refills`). The soft overlong punishment is
`reward.shape: [{overlong: ...}]`: it counts in A, and not in what an answer has earned. The filter for truncated
completions is `rollout.mask_truncated`.

Metrics: those of every online method.

Departures: the mean is over the tokens of an optimiser step, of all its prompts together, as TRL and verl do it; eq. 8
averages over the tokens of each prompt's completions, and then over prompts. The standard deviation is Bessel's; the
paper does not say which. Where rewards are more than right and wrong, a group is kept if its answers earned different
sums; one whose shaped rewards are all equal teaches nothing, and is left out too.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from align.batches import Rollouts, Sampled
from align.functional.advantages import group_normalised, group_spread
from align.functional.surrogate import clipped_surrogate, is_clipped
from align.methods.base import Loss, OnlineMethod, Term, drift, per_token, policy_report
from align.system.ranges import Positive


@dataclass(frozen=True, kw_only=True)
class DAPO(OnlineMethod[Rollouts[Sampled]]):
    name = "dapo"
    paper = "arXiv:2503.14476"
    smallest_group = 2

    clip_low: Positive = 0.2  # how far below 1 a ratio still teaches
    clip_high: Positive = 0.28  # likewise above

    def advantages(self, rollouts: Rollouts[Sampled]) -> Rollouts[Sampled]:
        return per_token(rollouts, group_normalised(rollouts.rewards, rollouts.groups))

    def keep(self, rollouts: Rollouts[Sampled]) -> Tensor:
        spreads = (group_spread(values, rollouts.groups) for values in (rollouts.earned, rollouts.rewards))
        return torch.stack([spread > 0 for spread in spreads]).all(0)

    def loss(self, batch: Rollouts[Sampled]) -> Loss:
        completion = batch.completion
        log_ratio, low, high = drift(completion), 1 - self.clip_low, 1 + self.clip_high
        loss = Loss(Term(clipped_surrogate(log_ratio, batch.advantages, low, high), completion.mask))
        return loss.report(policy_report(batch, is_clipped(log_ratio, batch.advantages, low, high)))
