"""A scalar reward model from comparisons (Bradley-Terry).

Ouyang et al., "Training language models to follow instructions with human feedback", 2022, arXiv:2203.02155, eq. 1;
margins m from Touvron et al., "Llama 2", 2023, arXiv:2307.09288, eq. 2; centring from Eisenstein et al., "Helping or
Herding?", 2023, arXiv:2312.09244:

    loss = -q log sigmoid(d) - (1 - q) log sigmoid(-d) + center_coef * (r_w + r_l)^2,    d = r_w - r_l - m

averaged over pairs; r is the scalar head at the last token. q is the probability that chosen is the better one: the
data's `soft_label` s (1 without it), and with label smoothing eps (1 - eps) s + eps (1 - s). m is the data's `margin`
(0 without it).

Metrics: `accuracy` share of pairs with r_w > r_l, `ties` share with r_w = r_l, which accuracy counts as misses,
`margin` r_w - r_l (the model's, not the data's), `chosen_rewards` and `rejected_rewards` mean rewards.

Departures: Ouyang et al. average over the K (K - 1) / 2 pairs of each prompt; here a row is a pair, and so is the unit
of the mean. center_coef is 0 by default, 0.01 is the value of arXiv:2312.09244. Margins with smoothing or soft labels
shift both orders of a pair alike; no paper says.
"""

from __future__ import annotations

from dataclasses import dataclass

from align.batches import GradedPairs, Scored
from align.functional.preference import logistic_loss, pair_metrics
from align.methods.base import Loss, OfflineMethod
from align.system.ranges import BelowHalf, NotNegative


@dataclass(frozen=True, kw_only=True)
class RewardModel(OfflineMethod[GradedPairs[Scored]]):
    name = "reward_model"
    paper = "arXiv:2203.02155"
    usual_rate = 1e-5

    label_smoothing: BelowHalf = 0.0  # probability that a label is flipped
    center_coef: NotNegative = 0.0  # pulls the two rewards of a pair towards a sum of 0

    def loss(self, batch: GradedPairs[Scored]) -> Loss:
        r_w, r_l = batch.chosen.scores, batch.rejected.scores
        q = (1 - self.label_smoothing) * batch.soft_labels + self.label_smoothing * (1 - batch.soft_labels)
        comparison = logistic_loss(r_w - r_l - batch.margins, q)
        ties = (r_w == r_l).to(r_w.dtype)
        return Loss(comparison + self.center_coef * (r_w + r_l) ** 2).report(pair_metrics(r_w, r_l) | {"ties": ties})
