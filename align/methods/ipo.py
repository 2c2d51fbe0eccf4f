"""Identity preference optimisation.

Azar, Guo, Piot, Munos, Rowland, Valko, Calandriello, "A General Theoretical Paradigm to Understand Learning from Human
Preferences", 2023, arXiv:2310.12036, eq. 17:

    loss = (h - 1 / (2 beta))^2,    h = a(u_w) - a(u_l),    u_t = log pi(y_t) - log pi_ref(y_t)

where beta is the paper's tau and a is the mean or the sum over completion tokens, averaged over pairs. The squared
regression has its minimum at a finite margin, so deterministic preferences do not drive the policy to infinity.

Metrics: those of every method over pairs, of summed log-ratios whatever `aggregation` is.

Departures: eq. 17 and the code of DPO's authors use sums. `aggregation` is `mean` by default, which is comparable
across lengths, and which IPO's authors are reported (unconfirmed) to have used in their experiments. The same beta then
asks for a log-ratio as many times larger as there are tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from align.batches import Pairs, Referenced
from align.functional.masked import masked_mean, masked_sum
from align.functional.preference import identity_loss, log_ratio
from align.methods.base import Loss, OfflineMethod, pair_report
from align.system.ranges import Positive

AGGREGATIONS = {"mean": masked_mean, "sum": masked_sum}


@dataclass(frozen=True, kw_only=True)
class IPO(OfflineMethod[Pairs[Referenced]]):
    name = "ipo"
    paper = "arXiv:2310.12036"

    beta: Positive = 0.1  # the paper's tau
    aggregation: Literal["mean", "sum"] = "mean"  # of the log-ratios, over completion tokens

    def loss(self, batch: Pairs[Referenced]) -> Loss:
        chosen, rejected = batch.chosen, batch.rejected
        aggregate = AGGREGATIONS[self.aggregation]
        h = aggregate(chosen.logps - chosen.ref_logps, chosen.mask)
        h = h - aggregate(rejected.logps - rejected.ref_logps, rejected.mask)
        u_w = log_ratio(chosen.logps, chosen.ref_logps, chosen.mask)
        u_l = log_ratio(rejected.logps, rejected.ref_logps, rejected.mask)
        loss = Loss(identity_loss(h, 1.0, self.beta))
        return loss.report(pair_report(batch, self.beta * u_w, self.beta * u_l))
