"""Dynamic fine-tuning: SFT without the preference for tokens that the model finds unlikely.

Wu, Zhou, Ziheng, Peng, Ye, Hu, Zhu, Qi, Yang, Yang, "On the Generalization of SFT: A Reinforcement Learning Perspective
with Reward Rectification", 2025, arXiv:2508.05629:

    loss = -(1 / N) sum_b sum_t sg(pi(y_bt)) log pi(y_bt),    N = the number of loss tokens of the whole optimiser step

where sg has no gradient, so that the gradient of each token is its probability times that of SFT.

Metrics: `likelihood` what SFT would minimise, -(1/N) sum log pi; `entropy` mean entropy (nats) of the predictive
distribution over loss tokens, `token_accuracy` share of loss tokens that were the likeliest ones.

Departures: none known. The number of the paper's equation is unconfirmed.
"""

from __future__ import annotations

from dataclasses import dataclass

from align.batches import Demonstrations, Watched
from align.methods.base import Loss, OfflineMethod, Term, metric


@dataclass(frozen=True, kw_only=True)
class DFT(OfflineMethod[Demonstrations[Watched]]):
    name = "dft"
    paper = "arXiv:2508.05629"
    usual_rate = 2e-5

    def loss(self, batch: Demonstrations[Watched]) -> Loss:
        tokens = batch.completion
        logps = tokens.logps.masked_fill(~tokens.mask, 0.0)  # before exp: 0 * inf in the backward pass would be NaN
        return Loss(
            Term(-logps.detach().exp() * logps, tokens.mask),
            likelihood=metric(-logps, tokens.mask),
            entropy=metric(tokens.entropies, tokens.mask),
            token_accuracy=metric(tokens.hits, tokens.mask),
        )
