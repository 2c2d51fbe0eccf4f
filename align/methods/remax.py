"""ReMax: REINFORCE whose baseline is the reward of the greedy completion.

Li, Xu, Zhang, Lin, Yu, Sun, Luo, "ReMax: A Simple, Effective, and Efficient Reinforcement Learning Method for Aligning
Large Language Models", 2023, arXiv:2310.10505, algorithm 1:

    R_i  = reward_i - kl_coef * sum_t [log pi_old(y_t) - log pi_ref(y_t)]
    A_i  = R_i - reward of the greedy completion of the same prompt
    loss = -A_i sum_t log pi(y_t)

averaged over completions. The greedy completions are written, rewarded and never learned from. There is no ratio: take
one step per experience, or the gradient is biased.

Metrics: those of every online method, where `clip_fraction` is 0: nothing is clipped.

Departures: a prompt whose greedy completion could not be judged teaches nothing; how the paper adds the KL to the
reward (per token, or per completion as here) is unconfirmed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from align.batches import Anchored, Ask, Rollouts
from align.methods.base import Loss, OnlineMethod, kl_charged, per_token, reinforce_loss, weight
from align.system.ranges import NotNegative


@dataclass(frozen=True, kw_only=True)
class ReMax(OnlineMethod[Rollouts[Anchored]]):
    name = "remax"
    paper = "arXiv:2310.10505"

    kl_coef: NotNegative = weight(0.05, of="old ref")  # what a nat of divergence from the reference costs, in reward

    def resample(self, rollouts: Rollouts[Anchored]) -> list[Ask]:
        """One greedy completion for each prompt that has none."""
        first = rollouts.groups.diff(prepend=rollouts.groups.new_full((1,), -1)) != 0
        rows = (first & ~self._answered(rollouts)).nonzero()
        return [Ask(int(row), greedy=True) for row in rows]

    def advantages(self, rollouts: Rollouts[Anchored]) -> Rollouts[Anchored]:
        greedy, baseline = rollouts.auxiliary, rollouts.rewards.new_zeros(int(rollouts.groups.max()) + 1)
        baseline[rollouts.groups[greedy]] = rollouts.rewards[greedy]
        advantages = kl_charged(rollouts, self.kl_coef) - baseline[rollouts.groups]
        return per_token(rollouts, torch.where(self._answered(rollouts), advantages, 0.0))

    def _answered(self, rollouts: Rollouts[Anchored]) -> torch.Tensor:
        """(B,) bool: whether the greedy completion of the row's prompt has been judged."""
        return torch.isin(rollouts.groups, rollouts.groups[rollouts.auxiliary])

    def loss(self, batch: Rollouts[Anchored]) -> Loss:
        return reinforce_loss(batch)
