"""Simple preference optimisation: no reference, lengths divided out.

Meng, Xia, Chen, "SimPO: Simple Preference Optimization with a Reference-Free Reward", 2024, arXiv:2405.14734, eq. 6:

    loss = -log sigmoid(beta * (m_w - m_l) - gamma),    m = mean_t log pi(y_t)

over completion tokens, averaged over pairs.

Metrics: those of every method over pairs, with m in place of u, and a margin without gamma; `likelihood_accuracy` goes
by the sums.

Departures: none known. The paper tunes beta from 2 to 10 and gamma / beta around 0.5 for each model; the defaults are
where such a search starts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F

from align.batches import Pairs, Sequences
from align.functional.masked import masked_mean
from align.methods.base import Loss, OfflineMethod, pair_report
from align.system.ranges import NotNegative, Positive


@dataclass(frozen=True, kw_only=True)
class SimPO(OfflineMethod[Pairs[Sequences]]):
    name = "simpo"
    paper = "arXiv:2405.14734"

    beta: Positive = 2.0  # scale of the reward
    gamma: NotNegative = 1.0  # margin by which the chosen reward should win

    def loss(self, batch: Pairs[Sequences]) -> Loss:
        chosen, rejected = batch.chosen, batch.rejected
        r_w = self.beta * masked_mean(chosen.logps, chosen.mask)
        r_l = self.beta * masked_mean(rejected.logps, rejected.mask)
        loss = Loss(-F.logsigmoid(r_w - r_l - self.gamma))
        return loss.report(pair_report(batch, r_w, r_l))
