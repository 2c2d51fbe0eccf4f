"""Supervised fine-tuning: maximum likelihood on demonstrations.

The first stage of Ouyang et al., "Training language models to follow instructions with human feedback", 2022,
arXiv:2203.02155, section 3.5:

    loss = -(1 / N) sum_b sum_t log pi(y_bt),    N = the number of loss tokens of the whole optimiser step

over the tokens that the data's mask keeps. A token counts the same in whatever row, micro-batch or rank it stands.

Metrics: `entropy` mean entropy (nats) of the predictive distribution over loss tokens, `token_accuracy` share of loss
tokens that were the likeliest ones.

Departures: none. Two other means must be asked for: `aggregation: sequence_mean` is the mean over rows of row means
(a token of a short answer weighs more), `sequence_sum` the mean over rows of row sums. Rows without a loss token are
left out of both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from align.batches import Demonstrations, Watched
from align.methods.base import Loss, OfflineMethod, aggregated, metric


@dataclass(frozen=True, kw_only=True)
class SFT(OfflineMethod[Demonstrations[Watched]]):
    name = "sft"
    paper = "arXiv:2203.02155"
    usual_rate = 2e-5

    aggregation: Literal["token_mean", "sequence_mean", "sequence_sum"] = "token_mean"

    def loss(self, batch: Demonstrations[Watched]) -> Loss:
        tokens = batch.completion
        return Loss(
            aggregated(-tokens.logps, tokens.mask, self.aggregation),
            entropy=metric(tokens.entropies, tokens.mask),
            token_accuracy=metric(tokens.hits, tokens.mask),
        )
