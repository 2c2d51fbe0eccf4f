"""Direct preference optimisation.

Rafailov, Sharma, Mitchell, Ermon, Manning, Finn, "Direct Preference Optimization: Your Language Model is Secretly a
Reward Model", 2023, arXiv:2305.18290, eq. 7:

    loss = -log sigmoid(beta * (u_w - u_l)),    u = sum_t [log pi(y_t) - log pi_ref(y_t)]

summed over completion tokens, averaged over pairs. The chosen log-probability usually falls too; that is the method,
not a bug.

Metrics: `accuracy` share of pairs with u_w > u_l (0 when policy and reference are equal), `margin` beta (u_w - u_l),
`chosen_rewards` and `rejected_rewards` beta u, `chosen_logps` and `rejected_logps` summed log-probabilities.

Departures: AdamW instead of the paper's RMSprop is the recipe's choice.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F

from align.batches import Pairs, Referenced
from align.functional.preference import log_ratio
from align.methods.base import Loss, OfflineMethod


@dataclass(frozen=True, kw_only=True)
class DPO(OfflineMethod[Pairs[Referenced]]):
    name = "dpo"
    paper = "arXiv:2305.18290"

    beta: float = 0.1

    def loss(self, batch: Pairs[Referenced]) -> Loss:
        u_w = log_ratio(batch.chosen.logps, batch.chosen.ref_logps, batch.chosen.mask)
        u_l = log_ratio(batch.rejected.logps, batch.rejected.ref_logps, batch.rejected.mask)
        return Loss(-F.logsigmoid(self.beta * (u_w - u_l)))
