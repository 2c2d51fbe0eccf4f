"""REINFORCE++: token-level REINFORCE with PPO's clip and one normalisation over the whole batch.

Hu, "REINFORCE++: A Simple and Efficient Approach for Aligning Large Language Models", 2025, arXiv:2501.03262:

    A_t  = sum_{s >= t} [reward at the last token - kl_coef * (log pi_old(y_s) - log pi_ref(y_s))], then whitened
    loss = max(-A_t rho_t, -A_t clip(rho_t, 1 - clip_range, 1 + clip_range)),   rho_t = pi(y_t) / pi_old(y_t)

averaged over tokens. No critic, no comparison within a group: one completion per prompt is enough.

Metrics: those of every online method.

Departures: the loss is averaged over the tokens of an optimiser step, of all its completions together, as TRL and verl
do it; the paper averages over the tokens of each completion first. Whitening is over kept tokens, by population
variance. The paper's variant with a group baseline is `loop` or `rloo` here. Equation numbers are unconfirmed.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from align.batches import Anchored, Rollouts
from align.functional.advantages import final_rewards, rewards_to_go, whiten
from align.functional.surrogate import clipped_surrogate, is_clipped
from align.methods.base import Loss, OnlineMethod, Term, distance, drift, policy_report, weight
from align.system.ranges import NotNegative, Positive


@dataclass(frozen=True, kw_only=True)
class ReinforcePP(OnlineMethod[Rollouts[Anchored]]):
    name = "reinforce_pp"
    paper = "arXiv:2501.03262"

    kl_coef: NotNegative = weight(0.01, of="old ref")  # what a nat of divergence from the reference costs, in reward
    clip_range: Positive = 0.2  # how far from 1 a ratio still teaches

    def advantages(self, rollouts: Rollouts[Anchored]) -> Rollouts[Anchored]:
        written = rollouts.completion
        kl = distance(written)
        to_go = rewards_to_go(final_rewards(rollouts.rewards, written.mask) - self.kl_coef * kl, written.mask)
        return dataclasses.replace(rollouts, advantages=whiten(to_go, written.mask))

    def loss(self, batch: Rollouts[Anchored]) -> Loss:
        completion = batch.completion
        log_ratio, low, high = drift(completion), 1 - self.clip_range, 1 + self.clip_range
        loss = Loss(Term(clipped_surrogate(log_ratio, batch.advantages, low, high), completion.mask))
        return loss.report(policy_report(batch, is_clipped(log_ratio, batch.advantages, low, high)))
