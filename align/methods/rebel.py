"""REBEL: each step regresses differences of log-ratios onto differences of rewards.

Gao et al., "REBEL: Reinforcement Learning via Regressing Relative Rewards", 2024, arXiv:2404.16767, in the form of the
authors' code, which is eta^2 times that of the paper and has the same minimiser. For two completions i, j of a prompt

    R_i  = reward_i - kl_coef * sum_t [log pi_old(y_t) - log pi_ref(y_t)]
    u_i  = sum_t [log pi(y_t) - log pi_old(y_t)]
    loss = (u_i - u_j - eta (R_i - R_j))^2

averaged over pairs. Its exact solution is pi proportional to pi_old exp(eta R): a step of mirror descent, without a
critic, a clip or a partition function.

Use it where rewards compare within a prompt alone, and neither critic nor clip is wanted.

Metrics: those of every online method, where `clip_fraction` is 0: nothing is clipped; `residual` mean |u_i - u_j - eta
(R_i - R_j)| of a pair.

Departures: the authors draw two completions (or take the best and the worst of five); here all pairs of a prompt are
taken, each completion counting once. R is fixed when a completion is written, as theirs is.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from align.batches import Anchored, Rivals
from align.functional.pairing import differences, pair_means, partners
from align.methods.base import (
    Loss,
    OnlineMethod,
    Term,
    drift,
    kl_charged,
    metric,
    of_completion,
    per_token,
    policy_report,
    weight,
)
from align.system.ranges import NotNegative, Positive


@dataclass(frozen=True, kw_only=True)
class REBEL(OnlineMethod[Rivals[Anchored]]):
    name = "rebel"
    paper = "arXiv:2404.16767"
    smallest_group = 2  # completions are compared in pairs

    eta: Positive = 1.0  # size of the step: log-ratio that a unit of reward is to make
    kl_coef: NotNegative = weight(0.05, of="old ref")  # what a nat of divergence from the reference costs, in reward

    @property
    def correction_levels(self) -> tuple[str, ...]:
        return ()  # a square

    def advantages(self, rollouts: Rivals[Anchored]) -> Rivals[Anchored]:
        return per_token(rollouts, kl_charged(rollouts, self.kl_coef))

    def loss(self, batch: Rivals[Anchored]) -> Loss:
        paired = partners(batch.groups)
        moved = differences(drift(batch.completion).sum(-1), paired)
        rows = paired.any(-1)  # where the others of a prompt are left out there is nothing to compare with
        residual = moved - self.eta * differences(of_completion(batch), paired)
        report = policy_report(batch, torch.zeros(len(batch), dtype=torch.bool, device=residual.device))
        report["residual"] = metric(pair_means(residual.abs(), paired), rows)
        return Loss(Term(pair_means(residual**2, paired), rows)).report(report)
