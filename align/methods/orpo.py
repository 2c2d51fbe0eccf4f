"""Odds-ratio preference optimisation: fine-tuning and preference in one stage, without a reference.

Hong, Lee, Thorne, "ORPO: Monolithic Preference Optimization without Reference Model", 2024, arXiv:2403.07691, eq. 6, 7:

    loss = -m_w - lam * log sigmoid(o_w - o_l)
    m    = mean_t log pi(y_t),    o = m - log(1 - e^m)

over completion tokens, averaged over pairs.

Metrics: those of every method over pairs, with o in place of u and without a beta; `likelihood` -m_w and `odds_ratio`
-log sigmoid(o_w - o_l), the two terms.

Departures: the likelihood is the mean over completion tokens of each pair, then over pairs, so that both terms count
alike; other implementations average over all tokens, the prompt's too. An m that rounds to 0 is taken for the largest
number below it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F

from align.batches import Pairs, Sequences
from align.functional.masked import masked_mean
from align.functional.preference import log_odds
from align.methods.base import Loss, OfflineMethod, Term, pair_report
from align.system.ranges import NotNegative


@dataclass(frozen=True, kw_only=True)
class ORPO(OfflineMethod[Pairs[Sequences]]):
    name = "orpo"
    paper = "arXiv:2403.07691"
    usual_rate = 8e-6

    lam: NotNegative = 0.1  # weight of the odds ratio beside the likelihood

    def loss(self, batch: Pairs[Sequences]) -> Loss:
        chosen, rejected = batch.chosen, batch.rejected
        m_w = masked_mean(chosen.logps, chosen.mask)
        m_l = masked_mean(rejected.logps, rejected.mask)
        o_w, o_l = log_odds(m_w), log_odds(m_l)
        loss = Loss(likelihood=-m_w, odds_ratio=Term(-F.logsigmoid(o_w - o_l), weight=self.lam))
        return loss.report(pair_report(batch, o_w, o_l))
