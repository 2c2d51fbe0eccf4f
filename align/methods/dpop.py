"""DPO-Positive: DPO that pays wherever the chosen answer becomes less likely than the reference finds it.

Pal, Karkhanis, Dooley, Roberts, Naidu, White, "Smaug: Fixing Failure Modes of Preference Optimisation with
DPO-Positive", 2024, arXiv:2402.13228, eq. 3:

    loss = -log sigmoid(beta * (u_w - u_l - lam * max(0, -u_w))),    u = sum_t [log pi(y_t) - log pi_ref(y_t)]

summed over completion tokens, averaged over pairs. DPO is content when the rejected answer falls faster than the
chosen one; where the two differ in a few tokens both fall. Here a chosen answer that has fallen below the reference
(u_w < 0) must first rise again: its slope is then 1 + lam times that of DPO. At lam 0, or while no chosen answer has
fallen, it is DPO.

Metrics: those of every method over pairs, without the penalty; `shortfall` max(0, -u_w), the nats that the chosen
answer has lost.

Departures: none known. beta 0.3 and lam 50 are said to be those of the paper's runs (unconfirmed).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F

from align.batches import Pairs, Referenced
from align.functional.preference import log_ratio
from align.methods.base import Loss, OfflineMethod, pair_report
from align.system.ranges import NotNegative, Positive


@dataclass(frozen=True, kw_only=True)
class DPOP(OfflineMethod[Pairs[Referenced]]):
    name = "dpop"
    paper = "arXiv:2402.13228"

    beta: Positive = 0.3  # how dearly the policy pays for leaving the reference
    lam: NotNegative = 50.0  # what each nat costs that the chosen answer loses, in nats of the log-ratio

    def loss(self, batch: Pairs[Referenced]) -> Loss:
        chosen, rejected = batch.chosen, batch.rejected
        u_w = log_ratio(chosen.logps, chosen.ref_logps, chosen.mask)
        u_l = log_ratio(rejected.logps, rejected.ref_logps, rejected.mask)
        shortfall = F.relu(-u_w)  # without slope where nothing is lost yet: at the start it is DPO
        loss = Loss(-F.logsigmoid(self.beta * (u_w - u_l - self.lam * shortfall)))
        report = pair_report(batch, self.beta * u_w, self.beta * u_l)
        return loss.report({**report, "shortfall": shortfall})
