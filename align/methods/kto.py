"""Kahneman-Tversky optimisation: verdicts on single answers instead of pairs.

Ethayarajh, Xu, Muennighoff, Jurafsky, Kiela, "KTO: Model Alignment as Prospect Theoretic Optimization", 2024,
arXiv:2402.01306, eq. 8:

    loss = w_desirable   * (1 - sigmoid(beta * (u - z)))    for a desirable answer
           w_undesirable * (1 - sigmoid(beta * (z - u)))    for an undesirable one
    u    = sum_t [log pi(y_t) - log pi_ref(y_t)]
    z    = max(0, mean over M of sum_t [log pi_old(y_t) - log pi_ref(y_t)])

summed over completion tokens, averaged over answers. M are the prompts of the experience, each with the answer to
another prompt, and pi_old is the policy before it: z estimates KL(pi || pi_ref) and has no gradient.

Metrics: `accuracy` share of answers on the right side of z (u > z if desirable, u < z if not), `desirable_rewards` and
`undesirable_rewards` beta u, `desirable_logps` and `undesirable_logps` summed log-probabilities, each over the answers
with that verdict, `baseline` z.

Departures: z is made once per experience (a step, unless `training.num_minibatches` says more), over all its rows and
with the policy as it was before, instead of per micro-batch. Rows for which the experience has no answer to another
prompt that fits (the pair may be as long as its longest row) are left out of z.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch

from align.batches import Judged, Referenced
from align.functional.masked import masked_sum
from align.functional.preference import log_ratio
from align.methods.base import Loss, OfflineMethod, metric
from align.system.ranges import NotNegative, Positive


@dataclass(frozen=True, kw_only=True)
class KTO(OfflineMethod[Judged[Referenced]]):
    name = "kto"
    paper = "arXiv:2402.01306"
    smallest_batch = 2  # z needs another prompt's answer

    beta: Positive = 0.1  # how soon a gain or a loss saturates
    desirable_weight: NotNegative = 1.0  # the paper's lambda_D; choose both so that weight times count balances
    undesirable_weight: NotNegative = 1.0  # the paper's lambda_U

    def prepare(self, batch: Judged[Referenced]) -> Judged[Referenced]:
        other = batch.mismatched
        counted = other.mask.any(-1)
        u = log_ratio(other.old_logps, other.ref_logps, other.mask)
        z = (u.sum() / counted.sum().clamp(min=1)).clamp(min=0)  # u is 0 where nothing is counted
        return dataclasses.replace(batch, baseline=z.expand(len(batch)))

    def loss(self, batch: Judged[Referenced]) -> Loss:
        completion, labels, z = batch.completion, batch.labels, batch.baseline
        u = log_ratio(completion.logps, completion.ref_logps, completion.mask)
        gain = self.beta * (u - z)
        desirable = self.desirable_weight * torch.sigmoid(-gain)  # 1 - sigmoid(x) = sigmoid(-x)
        undesirable = self.undesirable_weight * torch.sigmoid(gain)
        logps = masked_sum(completion.logps, completion.mask)
        return Loss(
            torch.where(labels, desirable, undesirable),
            accuracy=metric(torch.where(labels, gain > 0, gain < 0)),
            desirable_rewards=metric(self.beta * u, labels),
            undesirable_rewards=metric(self.beta * u, ~labels),
            desirable_logps=metric(logps, labels),
            undesirable_logps=metric(logps, ~labels),
            baseline=metric(z),
        )
