"""VC-PPO: PPO for long completions, whose critic is trained first and whose policy and critic look ahead differently.

Yuan, Yue, Zhu, Fan, Yan, "What's Behind PPO's Collapse in Long-CoT? Value Optimization Holds the Secret", 2025,
arXiv:2503.01491; the length-adaptive lambda and the positive examples are VAPO's (Yue et al., 2025, arXiv:2504.05118).
A completion's reward is its last token's; there is no KL:

    A = generalised advantage estimation with lam, or with 1 - 1 / (length_alpha * length), held within 0 and 1
    R = A + V_old with lam_critic: 1 makes it what the completion earned, whatever the critic believed
    policy = max(-A_t rho_t, -A_t clip(rho_t, 1 - clip_low, 1 + clip_high)),   rho_t = pi(y_t) / pi_old(y_t)
    value  = (V - R)^2 / 2
    loss = policy + value_coef * value + nll_coef * [-log pi(y_t) over the completions that earned more than 0]

each averaged over its tokens; what a completion earned is its reward before `reward.shape`. The critic is to be a model
of its own (`model.critic`) that learns alone at first (`warmup_steps`) and until its loss and its explained variance
are flat (`warmup_flat`); twice the policy's learning rate is VAPO's choice. Use it where PPO with one lambda shortens
its completions.

Metrics: those of every online method; `policy`, `value` and, where nll_coef is above 0, `nll`: the terms;
`explained_variance` of each experience.

Departures: advantages are whitened unless `whiten` is false, which goes with a lambda of each completion's own; the
papers do not say. Nor does VC-PPO say its clip range, KL or learning rates; what happens where lambda would be below 0,
or where no completion is good, is our choice (0, no term).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from align.batches import CriticRollouts, Valued
from align.functional.advantages import final_rewards, gae, gae_and_returns, length_lambdas, whiten
from align.functional.masked import kept
from align.functional.surrogate import clipped_surrogate, is_clipped
from align.methods.base import Loss, OnlineMethod, Term, drift, policy_report, value_term
from align.system.ranges import NotNegative, Positive, Share


@dataclass(frozen=True, kw_only=True)
class VCPPO(OnlineMethod[CriticRollouts[Valued]]):
    name = "vc_ppo"
    paper = "arXiv:2503.01491"

    gamma: Share = 1.0  # what a token's reward counts one token earlier; 1: as much
    lam: Share = 0.95  # of the policy's advantages
    lam_critic: Share = 1.0  # of what the critic learns
    length_alpha: NotNegative = 0.0  # instead of lam, 1 - 1 / (length_alpha * length); VAPO: 0.05; 0: lam
    whiten: bool = True  # VAPO's advantages are as they are: set false with length_alpha
    clip_low: Positive = 0.2  # how far below 1 a ratio still teaches
    clip_high: Positive = 0.2  # VAPO: 0.28
    value_coef: NotNegative = 1.0  # weight of the critic's loss
    nll_coef: NotNegative = 0.0  # VAPO: 0.1

    def advantages(self, rollouts: CriticRollouts[Valued]) -> CriticRollouts[Valued]:
        written = rollouts.completion
        rewards = final_rewards(rollouts.rewards, written.mask)
        lam = length_lambdas(written.mask.sum(-1), self.length_alpha).to(rewards) if self.length_alpha else self.lam
        raw = gae(rewards, written.old_values, written.mask, self.gamma, lam)
        _, returns = gae_and_returns(rewards, written.old_values, written.mask, self.gamma, self.lam_critic)
        advantages = whiten(raw, written.mask) if self.whiten else raw
        return dataclasses.replace(rollouts, advantages=advantages, returns=returns)

    def loss(self, batch: CriticRollouts[Valued]) -> Loss:
        completion, mask = batch.completion, batch.completion.mask
        log_ratio, low, high = drift(completion), 1 - self.clip_low, 1 + self.clip_high
        policy = Term(clipped_surrogate(log_ratio, batch.advantages, low, high), mask)
        loss = Loss(policy=policy, value=value_term(batch, self.value_coef), **self._imitation(batch))
        return loss.report(policy_report(batch, is_clipped(log_ratio, batch.advantages, low, high)))

    def _imitation(self, batch: CriticRollouts[Valued]) -> dict[str, Term]:
        if not self.nll_coef:
            return {}
        completion = batch.completion
        good = completion.mask & (batch.earned > 0)[:, None]
        return {"nll": Term(-kept(completion.logps, completion.mask), good, self.nll_coef)}
