"""Direct preference optimisation.

Rafailov, Sharma, Mitchell, Ermon, Manning, Finn, "Direct Preference Optimization: Your Language Model is Secretly a
Reward Model", 2023, arXiv:2305.18290, eq. 7:

    loss = -log sigmoid(beta * (u_w - u_l)),    u = sum_t [log pi(y_t) - log pi_ref(y_t)]

summed over completion tokens, averaged over pairs. The KL term is in the log-ratios; there is no other. The chosen
log-probability usually falls too; that is the method, not a bug.

Metrics: those of every method over pairs. The accuracy is 0 when policy and reference are equal: a tie is a miss.

Departures: AdamW instead of the paper's RMSprop is the recipe's choice. For summarisation the paper is said to use
beta 0.5 (unconfirmed). Label smoothing is another method: `cdpo`, `robust`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F

from align.batches import Pairs, Referenced
from align.functional.preference import log_ratio
from align.methods.base import Loss, OfflineMethod, pair_report
from align.system.ranges import Positive


@dataclass(frozen=True, kw_only=True)
class DPO(OfflineMethod[Pairs[Referenced]]):
    name = "dpo"
    paper = "arXiv:2305.18290"

    beta: Positive = 0.1  # how dearly the policy pays for leaving the reference

    def loss(self, batch: Pairs[Referenced]) -> Loss:
        chosen, rejected = batch.chosen, batch.rejected
        u_w = log_ratio(chosen.logps, chosen.ref_logps, chosen.mask)
        u_l = log_ratio(rejected.logps, rejected.ref_logps, rejected.mask)
        loss = Loss(-F.logsigmoid(self.beta * (u_w - u_l)))
        return loss.report(pair_report(batch, self.beta * u_w, self.beta * u_l))
