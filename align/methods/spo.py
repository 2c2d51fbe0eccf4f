"""Simple policy optimisation: PPO with a quadratic penalty on the ratio in place of the clip.

Xie, Zhang, Yang, Hutter, Xu, "Simple Policy Optimization", ICML 2025, arXiv:2401.16025 (its earlier versions describe
another algorithm):

    policy = -(A_t rho_t - |A_t| (rho_t - 1)^2 / (2 epsilon)),   rho_t = pi(y_t) / pi_old(y_t)
    loss = policy + value_coef * value

The best ratio is 1 + epsilon sign(A_t), and a token beyond it is pulled back, where the clip of PPO would let it go.
Advantages, returns and the value's loss are PPO's: A is whitened, and the KL is in the reward. With `ratio_of:
completion` rho is that of the completion's mean log-ratio, and A the mean over its tokens (an extension). While a
critic of its own learns alone (`model.critic`, `warmup_steps`) its values are not clipped.

Use it where ratios run away in several passes over an experience.

Metrics: those of every online method, where `clip_fraction` is the share of ratios outside [1 - epsilon, 1 + epsilon],
of which nothing is clipped; `policy` and `value` the two terms, `ratio_gap` mean |rho - 1|.

Departures: the authors whiten within a minibatch, here it is once over all that was written. They have no experiments
with language models; what is said of tokens is derived. The log-ratio is held at 20 for finiteness.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal

from align.batches import AnchoredValued, CriticRollouts
from align.functional.advantages import final_rewards, gae_and_returns, whiten
from align.functional.kl import k1
from align.functional.masked import masked_mean
from align.functional.surrogate import quadratic_surrogate, ratio_of
from align.methods.base import (
    LEVELS,
    OF_COMPLETIONS,
    Loss,
    OnlineMethod,
    Term,
    distance,
    drift,
    metric,
    policy_report,
    value_term,
    weight,
)
from align.system.ranges import NotNegative, Positive, Share


@dataclass(frozen=True, kw_only=True)
class SPO(OnlineMethod[CriticRollouts[AnchoredValued]]):
    name = "spo"
    paper = "arXiv:2401.16025"

    kl_coef: NotNegative = weight(0.05, of="old ref")  # what a nat of divergence from the reference costs, in reward
    gamma: Share = 1.0  # what a token's reward counts one token earlier; 1: as much
    lam: Share = 0.95
    epsilon: Positive = 0.2  # where the best ratio is; completions want far smaller ones, such as 3e-4
    ratio_of: Literal["token", "completion"] = "token"
    value_clip: NotNegative = 0.2  # 0: none
    value_coef: NotNegative = 0.1  # weight of the critic's loss

    @property
    def correction_levels(self) -> tuple[str, ...]:
        return LEVELS if self.ratio_of == "token" else OF_COMPLETIONS

    def advantages(self, rollouts: CriticRollouts[AnchoredValued]) -> CriticRollouts[AnchoredValued]:
        written = rollouts.completion
        rewards = final_rewards(rollouts.rewards, written.mask) - self.kl_coef * k1(distance(written))
        raw, returns = gae_and_returns(rewards, written.old_values, written.mask, self.gamma, self.lam)
        return dataclasses.replace(rollouts, advantages=whiten(raw, written.mask), returns=returns)

    def critic_alone(self) -> SPO:
        """Held near its first values the critic could not learn in a few steps what they should have been."""
        return dataclasses.replace(self, value_clip=0.0)

    def loss(self, batch: CriticRollouts[AnchoredValued]) -> Loss:
        completion, mask = batch.completion, batch.completion.mask
        log_ratio, advantages = drift(completion), batch.advantages
        if self.ratio_of == "completion":
            log_ratio, advantages = masked_mean(log_ratio, mask), masked_mean(advantages, mask)
        policy = quadratic_surrogate(log_ratio, advantages, self.epsilon)
        value = value_term(batch, self.value_coef, self.value_clip or math.inf)
        rows = mask if policy.ndim == 2 else None
        gap = (ratio_of(log_ratio) - 1).abs()
        report = policy_report(batch, gap > self.epsilon) | {"ratio_gap": metric(gap, rows)}
        return Loss(policy=Term(policy, rows), value=value).report(report)
