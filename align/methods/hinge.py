"""Hinge loss on log-ratios.

Liu, Zhao, Joshi, Khalman, Saleh, Liu, Liu, "Statistical Rejection Sampling Improves Preference Optimization", 2023,
arXiv:2309.06657 (its `hinge-norm`):

    loss = max(0, 1 - beta * (u_w - u_l)),    u = sum_t [log pi(y_t) - log pi_ref(y_t)]

summed over completion tokens, averaged over pairs. A pair that is won by 1 / beta teaches nothing more.

Metrics: those of every method over pairs.

Departures: SLiC-HF (arXiv:2305.10425) has its hinge on the policy's likelihoods alone; this is the form with a
reference. beta 0.1 is DPO's; the paper's own value is unconfirmed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F

from align.batches import Pairs, Referenced
from align.functional.preference import log_ratio
from align.methods.base import Loss, OfflineMethod, pair_report
from align.system.ranges import Positive


@dataclass(frozen=True, kw_only=True)
class Hinge(OfflineMethod[Pairs[Referenced]]):
    name = "hinge"
    paper = "arXiv:2309.06657"

    beta: Positive = 0.1  # the reciprocal of the margin that is enough

    def loss(self, batch: Pairs[Referenced]) -> Loss:
        chosen, rejected = batch.chosen, batch.rejected
        u_w = log_ratio(chosen.logps, chosen.ref_logps, chosen.mask)
        u_l = log_ratio(rejected.logps, rejected.ref_logps, rejected.mask)
        loss = Loss(F.relu(1 - self.beta * (u_w - u_l)))
        return loss.report(pair_report(batch, self.beta * u_w, self.beta * u_l))
