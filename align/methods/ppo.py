"""Proximal policy optimisation with a learned critic: RLHF as it was first done.

Schulman, Wolski, Dhariwal, Radford, Klimov, "Proximal Policy Optimization Algorithms", 2017, arXiv:1707.06347, eq. 7;
for language models Ziegler et al., "Fine-Tuning Language Models from Human Preferences", 2019, arXiv:1909.08593, and
Huang et al., "The N+ Implementation Details of RLHF with PPO", 2024, arXiv:2403.17031. Every token is an action:

    r_t   = -kl_coef * k_t(log pi_old, log pi_ref),   plus the completion's reward on its last token
    A, R  = generalised advantage estimation of r over the critic's old values, R = A + V_old; then A is whitened
    policy = max(-A_t rho_t, -A_t clip(rho_t, 1 - clip_range, 1 + clip_range)),   rho_t = pi(y_t) / pi_old(y_t)
    value  = max((V - R)^2, (clip(V, V_old - value_clip, V_old + value_clip) - R)^2) / 2
    loss = policy + value_coef * value

both averaged over tokens. The KL is in the reward, of the policy as it was when it wrote; there is none in the loss.
While a critic of its own learns alone (`model.critic`, `warmup_steps`) its values are not clipped.

Metrics: those of every online method; `policy` and `value` the two terms, `value_clip_fraction` share of tokens whose
value has left the range.

Departures: advantages are whitened once over all that was written (by population variance), as in N+, not per
minibatch; rewards are not (see `reward.shape`). The controller of arXiv:1909.08593, section 2.2, runs where
`kl_target` is set.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from align.batches import AnchoredValued, CriticRollouts
from align.functional.advantages import final_rewards, gae_and_returns, whiten
from align.functional.kl import ESTIMATORS, Estimator, adapted
from align.functional.masked import kept
from align.functional.surrogate import clipped_surrogate, dual_clipped, is_clipped
from align.methods.base import (
    Loss,
    OnlineMethod,
    Term,
    distance,
    drift,
    metric,
    policy_report,
    require,
    value_term,
    weight,
)
from align.system.ranges import NotNegative, Positive, Share


@dataclass(frozen=True, kw_only=True)
class PPO(OnlineMethod[CriticRollouts[AnchoredValued]]):
    name = "ppo"
    paper = "arXiv:1707.06347"

    kl_coef: NotNegative = weight(0.05, of="old ref")  # what a nat of divergence from the reference costs, in reward
    kl_estimator: Estimator = "k1"  # of a token's log-ratio: itself, half its square, or one that is never negative
    kl_target: NotNegative = 0.0  # KL of a completion (nats) that kl_coef is steered to; 0: kl_coef stays
    kl_horizon: Positive = 10_000.0  # completions after which it has moved by the error
    gamma: Share = 1.0  # what a token's reward counts one token earlier; 1: as much
    lam: Share = 0.95
    clip_range: Positive = 0.2  # how far from 1 a ratio still teaches
    dual_clip: float = 0.0  # bounds the loss of bad tokens at -dual_clip A (arXiv:1912.09729); 0: none
    value_clip: NotNegative = 0.2  # 0: none
    value_coef: NotNegative = 0.1  # weight of the critic's loss

    def __post_init__(self):
        super().__post_init__()
        steers = not self.kl_target or self.kl_coef > 0
        require(steers, self, "kl_target", "0 where kl_coef is 0, which it multiplies")
        require(self.dual_clip == 0 or 1 < self.dual_clip < math.inf, self, "dual_clip", "finite and above 1, or 0")

    def advantages(self, rollouts: CriticRollouts[AnchoredValued]) -> CriticRollouts[AnchoredValued]:
        written = rollouts.completion
        kl = ESTIMATORS[self.kl_estimator](distance(written))
        rewards = final_rewards(rollouts.rewards, written.mask) - self.kl_coef * kl
        raw, returns = gae_and_returns(rewards, written.old_values, written.mask, self.gamma, self.lam)
        return dataclasses.replace(rollouts, advantages=whiten(raw, written.mask), returns=returns)

    def controllers(self, rollouts: CriticRollouts[AnchoredValued]) -> dict[str, float]:
        if not self.kl_target:
            return {}
        written = rollouts.completion
        kl = distance(written).sum(-1).mean().item()
        return {"kl_coef": adapted(self.kl_coef, kl, self.kl_target, len(rollouts) / self.kl_horizon)}

    def critic_alone(self) -> PPO:
        """Held near its first values the critic could not learn in a few steps what they should have been."""
        return dataclasses.replace(self, value_clip=0.0)

    def loss(self, batch: CriticRollouts[AnchoredValued]) -> Loss:
        completion, advantages = batch.completion, batch.advantages
        log_ratio = drift(completion)
        low, high = 1 - self.clip_range, 1 + self.clip_range
        policy = clipped_surrogate(log_ratio, advantages, low, high)
        policy = dual_clipped(policy, advantages, self.dual_clip) if self.dual_clip else policy
        near = self.value_clip or math.inf
        values, old_values = kept(completion.values, completion.mask), kept(completion.old_values, completion.mask)
        far = (values - old_values).abs() > near
        value = value_term(batch, self.value_coef, near)
        loss = Loss(policy=Term(policy, completion.mask), value=value)
        taken = is_clipped(log_ratio, advantages, low, high)
        if self.dual_clip:
            taken = taken | ((advantages < 0) & (log_ratio > math.log(self.dual_clip)))
        clipped = policy_report(batch, taken)
        return loss.report(clipped | {"value_clip_fraction": metric(far, completion.mask)})
