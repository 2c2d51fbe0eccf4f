"""RAFT: the policy imitates the best of its own completions of each prompt.

Dong, Xiong, Goyal, Zhang, Chow, Pan, Diao, Zhang, Shum, Zhang, "RAFT: Reward rAnked FineTuning for Generative
Foundation Model Alignment", 2023, arXiv:2304.06767, algorithm 1 with local ranking:

    b    = argmax_i reward_i over the k completions of a prompt
    loss = -sum_t log pi(y_bt) / (number of tokens of the best completions of the step)

A completion that is not the best of its prompt teaches nothing; of equals the first is kept, also where all are equal.
Only the order of a prompt's rewards matters. The best are `keep`; their advantage is 1, that of all others 0.

Metrics: those of every online method, over the best completions; nothing is clipped.

Departures: the paper also ranks all completions of a batch together, and may take a KL off the reward; neither is here.
It tunes for some epochs on what a stage wrote; here that is `rollout.num_iterations`, over `rollout.num_prompts`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from align.batches import Rollouts, Sampled
from align.functional.masked import kept
from align.methods.base import Loss, OnlineMethod, Term, per_token, policy_report


@dataclass(frozen=True, kw_only=True)
class RAFT(OnlineMethod[Rollouts[Sampled]]):
    name = "raft"
    paper = "arXiv:2304.06767"
    smallest_group = 2  # the best of one is no choice
    usual_rate = 2e-5

    def advantages(self, rollouts: Rollouts[Sampled]) -> Rollouts[Sampled]:
        return per_token(rollouts, _best(rollouts).to(rollouts.rewards.dtype))

    def keep(self, rollouts: Rollouts[Sampled]) -> Tensor:
        return _best(rollouts)

    def loss(self, batch: Rollouts[Sampled]) -> Loss:
        completion = batch.completion
        loss = Loss(Term(-batch.advantages * kept(completion.logps, completion.mask), completion.mask))
        return loss.report(policy_report(batch, torch.zeros_like(batch.rewards, dtype=torch.bool)))


def _best(rollouts: Rollouts[Sampled]) -> Tensor:
    """(B,) bool: the completion of each prompt that earned most, of equals the first."""
    best = torch.zeros_like(rollouts.rewards, dtype=torch.bool)
    for group in range(int(rollouts.groups.max()) + 1):
        rows = torch.nonzero(rollouts.groups == group)[:, 0]
        best[rows[rollouts.rewards[rows].argmax()]] = True
    return best
