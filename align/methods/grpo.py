"""Group relative policy optimisation: rewards standardised within a group instead of a critic.

Shao et al., "DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open Language Models", 2024,
arXiv:2402.03300, eq. 3 and 4:

    A_i  = (reward_i - mean of the group) / (standard deviation of the group + 1e-4)
    loss = mean_t [max(-A_i rho_t, -A_i clip(rho_t, 1 - clip_range, 1 + clip_range)) + kl_coef * k3_t(pi, pi_ref)]

averaged over the tokens of a completion, then over completions; rho_t = pi(y_t) / pi_old(y_t). Here the KL is in the
loss. `aggregation: token_mean` averages over all tokens of a step instead, so that those of long completions count as
much as those of short ones, and `clip_high` bounds the ratio at 1 + clip_high above (both as in DAPO, arXiv:2503.14476;
what is commonly run under the name of GRPO has them).

`unbiased_kl` multiplies k3_t by rho_t (DeepSeek-AI, "DeepSeek-V3.2", 2025, arXiv:2512.02556): with tokens of pi_old the
gradient of the product is that of KL(pi | pi_ref), also where rho_t is 1; that of k3_t alone is not.

Metrics: those of every online method; `off_policy` share of completions that off_policy_delta leaves out.

`off_policy_delta` is DeepSeek-V3.2's mask: of a completion with a negative advantage that this model finds, by more
than so many nats a token, less likely than the engine did, the policy term is left out; its tokens still count.

Departures: the standard deviation is Bessel's, and a group without spread has advantages of exactly 0 (the paper says
neither).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from align.batches import Anchored, Rollouts
from align.functional.advantages import group_normalised
from align.functional.correction import near
from align.functional.kl import k3
from align.functional.masked import kept, masked_mean
from align.functional.surrogate import clipped_surrogate, is_clipped
from align.methods.base import (
    Loss,
    OnlineMethod,
    Term,
    drift,
    metric,
    of_completion,
    per_token,
    policy_report,
    weight,
)
from align.system.ranges import NotNegative, Positive


@dataclass(frozen=True, kw_only=True)
class GRPO(OnlineMethod[Rollouts[Anchored]]):
    name = "grpo"
    paper = "arXiv:2402.03300"
    smallest_group = 2  # one completion has no spread

    kl_coef: NotNegative = weight(0.04, of="ref")  # of the k3 term in the loss
    unbiased_kl: bool = False  # the k3 term is multiplied by the ratio, as in DeepSeek-V3.2
    clip_range: Positive = 0.2  # how far from 1 a ratio still teaches
    clip_high: NotNegative = 0.0  # above a ratio of 1, where that is bounded otherwise than below; 0: clip_range
    aggregation: Literal["sequence_mean", "token_mean"] = "sequence_mean"
    off_policy_delta: NotNegative = 0.0  # nats a token from which a bad completion is too far off; 0: none is

    def advantages(self, rollouts: Rollouts[Anchored]) -> Rollouts[Anchored]:
        return per_token(rollouts, group_normalised(rollouts.rewards, rollouts.groups))

    def loss(self, batch: Rollouts[Anchored]) -> Loss:
        completion, advantages = batch.completion, batch.advantages
        log_ratio = drift(completion)
        low, high = 1 - self.clip_range, 1 + (self.clip_high or self.clip_range)
        losses = clipped_surrogate(log_ratio, advantages, low, high)
        report = policy_report(batch, is_clipped(log_ratio, advantages, low, high))
        if self.off_policy_delta:
            gap = kept(completion.sampler_logps - completion.logps, completion.mask)
            learned = near(of_completion(batch), gap, completion.mask, self.off_policy_delta)
            losses = torch.where(learned[:, None], losses, 0.0)
            report["off_policy"] = metric(~learned)
        kl = k3(kept(completion.logps - completion.ref_logps, completion.mask))
        losses = losses + self.kl_coef * (kl * log_ratio.exp() if self.unbiased_kl else kl)
        whole = self.aggregation == "sequence_mean"
        mean = Term(masked_mean(losses, completion.mask)) if whole else Term(losses, completion.mask)
        return Loss(mean).report(report)
