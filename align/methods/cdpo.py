"""Conservative DPO: labels that may be wrong.

Mitchell, "A note on DPO with noisy preferences & relationship to IPO", 2023, https://ericmitchell.ai/cdpo.pdf:

    loss = -(1 - eps) log sigmoid(beta h) - eps log sigmoid(-beta h),    h = u_w - u_l
    u    = sum_t [log pi(y_t) - log pi_ref(y_t)]

summed over completion tokens, averaged over pairs; eps is the probability that a label is flipped. The gradient
vanishes where sigmoid(beta h) = 1 - eps: margins stay finite. eps = 0 is DPO.

Metrics: those of every method over pairs.

Departures: none known; the defaults are this project's.
"""

from __future__ import annotations

from dataclasses import dataclass

from align.batches import Pairs, Referenced
from align.functional.preference import log_ratio, logistic_loss
from align.methods.base import Loss, OfflineMethod, pair_report
from align.system.ranges import BelowHalf, Positive


@dataclass(frozen=True, kw_only=True)
class CDPO(OfflineMethod[Pairs[Referenced]]):
    name = "cdpo"
    paper = "https://ericmitchell.ai/cdpo.pdf"

    beta: Positive = 0.1  # how dearly the policy pays for leaving the reference
    label_smoothing: BelowHalf = 0.1  # eps

    def loss(self, batch: Pairs[Referenced]) -> Loss:
        chosen, rejected = batch.chosen, batch.rejected
        u_w = log_ratio(chosen.logps, chosen.ref_logps, chosen.mask)
        u_l = log_ratio(rejected.logps, rejected.ref_logps, rejected.mask)
        loss = Loss(logistic_loss(self.beta * (u_w - u_l), 1 - self.label_smoothing))
        return loss.report(pair_report(batch, self.beta * u_w, self.beta * u_l))
