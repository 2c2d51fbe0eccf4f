"""REINFORCE with the mean of earlier rewards as its baseline.

Williams, "Simple statistical gradient-following algorithms for connectionist reinforcement learning", 1992; in the form
of Ahmadian et al., "Back to Basics", 2024, arXiv:2402.14740, eq. 6. A whole completion is one action:

    R_i  = reward_i - kl_coef * sum_t [log pi_old(y_t) - log pi_ref(y_t)]
    A_i  = R_i - (mean of all R of earlier experiences)
    loss = -A_i sum_t log pi(y_t)

averaged over completions. There is no ratio: take one step per experience, or the gradient is biased.

Metrics: those of every online method, where `clip_fraction` is 0: nothing is clipped.

Departures: the baseline moves once per experience, over all its completions; the first experience has none (0).
"""

from __future__ import annotations

from dataclasses import dataclass

from align.batches import Anchored, Rollouts
from align.methods.base import Loss, OnlineMethod, kl_charged, per_token, reinforce_loss, remembered, weight
from align.system.ranges import NotNegative


@dataclass(frozen=True, kw_only=True)
class Reinforce(OnlineMethod[Rollouts[Anchored]]):
    name = "reinforce"
    paper = "arXiv:2402.14740"

    kl_coef: NotNegative = weight(0.05, of="old ref")  # what a nat of divergence from the reference costs, in reward
    reward_sum: float = remembered()  # of all earlier completions, KL taken off
    num_rewards: float = remembered()

    def advantages(self, rollouts: Rollouts[Anchored]) -> Rollouts[Anchored]:
        baseline = self.reward_sum / max(self.num_rewards, 1)
        return per_token(rollouts, kl_charged(rollouts, self.kl_coef) - baseline)

    def controllers(self, rollouts: Rollouts[Anchored]) -> dict[str, float]:
        total = self.reward_sum + kl_charged(rollouts, self.kl_coef).sum().item()
        return {"reward_sum": total, "num_rewards": self.num_rewards + len(rollouts)}

    def loss(self, batch: Rollouts[Anchored]) -> Loss:
        return reinforce_loss(batch)
