"""Robust DPO: an unbiased loss under labels flipped at a known rate.

Chowdhury, Kini, Natarajan, "Provably Robust DPO: Aligning Language Models with Noisy Feedback", 2024, arXiv:2403.00409:

    loss = [-(1 - eps) log sigmoid(beta h) + eps log sigmoid(-beta h)] / (1 - 2 eps),    h = u_w - u_l
    u    = sum_t [log pi(y_t) - log pi_ref(y_t)]

summed over completion tokens, averaged over pairs; eps is the probability that a label is flipped. Averaged over such
flips it is the DPO loss of the clean label. It is unbounded below, and its gradient never vanishes. eps = 0 is DPO.

Metrics: those of every method over pairs.

Departures: none known; it is written as the logistic loss of the label (1 - eps) / (1 - 2 eps), which is above 1.
"""

from __future__ import annotations

from dataclasses import dataclass

from align.batches import Pairs, Referenced
from align.functional.preference import log_ratio, logistic_loss
from align.methods.base import Loss, OfflineMethod, pair_report
from align.system.ranges import BelowHalf, Positive


@dataclass(frozen=True, kw_only=True)
class Robust(OfflineMethod[Pairs[Referenced]]):
    name = "robust"
    paper = "arXiv:2403.00409"

    beta: Positive = 0.1  # how dearly the policy pays for leaving the reference
    label_smoothing: BelowHalf = 0.1  # eps

    def loss(self, batch: Pairs[Referenced]) -> Loss:
        chosen, rejected = batch.chosen, batch.rejected
        u_w = log_ratio(chosen.logps, chosen.ref_logps, chosen.mask)
        u_l = log_ratio(rejected.logps, rejected.ref_logps, rejected.mask)
        label = (1 - self.label_smoothing) / (1 - 2 * self.label_smoothing)
        loss = Loss(logistic_loss(self.beta * (u_w - u_l), label))
        return loss.report(pair_report(batch, self.beta * u_w, self.beta * u_l))
