"""APA: the log-probability of each token is regressed onto what its advantage asks of the reference.

Zhu et al., "Fine-Tuning Language Models with Advantage-Induced Policy Alignment", 2023, arXiv:2306.02231, as in the
authors' code (whose classes say SPPO and have nothing to do with self-play). A_t by generalised advantage estimation
over the reward on the last token, then whitened (`whiten`); there is no KL in the reward, no ratio and no clip:

    policy = (log pi(y_t) - log pi_ref(y_t) - A_t / apa_lambda)^2
    value  = (V - R)^2 / 2
    loss = policy + value_coef * value

both averaged over tokens. The target is pi_ref exp(A / apa_lambda) without its normaliser, which is 1 to first order.
`objective: weighted` is the paper's baseline, advantage-weighted regression: policy = -log pi(y_t) exp(kappa A_t).

Use it where a reward should pull a known distance and no further. Whitened, as in the authors' code, that distance is
1 / apa_lambda nats for a token that is one standard deviation better than the others of its experience, whatever the
reward's unit; `whiten: false` makes it 1 / apa_lambda nats for a unit of reward, the same in every experience.

Metrics: those of every online method, where `clip_fraction` is 0: nothing is clipped; `policy` and `value` the two
terms, `ref_gap` mean |log pi - log pi_ref| per token (nats).

Departures: the authors whiten over the padding too, which makes advantages larger the more padding there is; here it is
over kept tokens. Their code divides rewards by a running standard deviation (see `reward.shape`). Whether the paper
whitens at all, and which apa_lambda was best where, is unconfirmed.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

import torch

from align.batches import AnchoredValued, CriticRollouts
from align.functional.advantages import final_rewards, gae_and_returns, whiten
from align.functional.masked import kept
from align.methods.base import Loss, OnlineMethod, Term, metric, policy_report, value_term, weight
from align.system.ranges import NotNegative, Positive, Share


@dataclass(frozen=True, kw_only=True)
class APA(OnlineMethod[CriticRollouts[AnchoredValued]]):
    name = "apa"
    paper = "arXiv:2306.02231"

    objective: Literal["squared", "weighted"] = "squared"
    apa_lambda: Positive = weight(0.1, of="ref")  # advantage that a nat away from the reference is worth
    whiten: bool = True  # false: advantages stay in the reward's unit, and so does apa_lambda
    kappa: Positive = 0.5  # of `weighted`
    gamma: Share = 1.0  # what a token's reward counts one token earlier; 1: as much
    lam: Share = 0.95
    value_coef: NotNegative = 1.0  # weight of the critic's loss

    @property
    def correction_levels(self) -> tuple[str, ...]:
        return ()  # a square, or an exponential

    def advantages(self, rollouts: CriticRollouts[AnchoredValued]) -> CriticRollouts[AnchoredValued]:
        written = rollouts.completion
        rewards = final_rewards(rollouts.rewards, written.mask)
        raw, returns = gae_and_returns(rewards, written.old_values, written.mask, self.gamma, self.lam)
        advantages = whiten(raw, written.mask, unbiased=True) if self.whiten else raw
        return dataclasses.replace(rollouts, advantages=advantages, returns=returns)

    def loss(self, batch: CriticRollouts[AnchoredValued]) -> Loss:
        completion, mask = batch.completion, batch.completion.mask
        gap = kept(completion.logps - completion.ref_logps, mask)
        if self.objective == "squared":
            policy = (gap - batch.advantages / self.apa_lambda) ** 2
        else:
            policy = -kept(completion.logps, mask) * (self.kappa * batch.advantages).clamp(max=20.0).exp()
        report = policy_report(batch, torch.zeros_like(mask)) | {"ref_gap": metric(gap.abs(), mask)}
        return Loss(policy=Term(policy, mask), value=value_term(batch, self.value_coef)).report(report)
