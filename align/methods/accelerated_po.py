"""Accelerated preference optimisation: rounds of a pair loss, with a jump ahead between them.

He, Yuan, Gu, "Accelerated Preference Optimization for Large Language Model Alignment", 2024, arXiv:2410.06293. No code
of the authors is public. A round writes completions by pi_old, the policy at its start (the paper's pi_t), pairs the
best of each prompt with the worst (prompts whose completions are equal are left out), and minimises from there a pair
loss whose reference is pi_old. With u = sum_t [log pi(y_t) - log pi_old(y_t)] of the better (w) and of the worse one
(l), averaged over pairs,

    inner: dpo     loss = -log sigmoid(beta (u_w - u_l))
    inner: ipo     loss = (u_w - u_l - 1 / (2 beta))^2
    inner: sppo    loss = ((u_w - 1 / (2 beta))^2 + (u_l + 1 / (2 beta))^2) / 2

The next round begins ahead of its solution, in float32, weight by weight (section 5.2; in logits it is eq. 3.6):

    theta_{k+1} = hat_{k+1} + extrapolation_alpha (hat_{k+1} - hat_k)

where hat_{k+1} is the solution of round k and hat_k that of the round before, not where round k began. The last
solution is not extrapolated: it is the result, and what is evaluated at a round's end is the solution, too.
extrapolation_alpha 0 is the inner method in rounds, bit for bit. The KL is to pi_old, not to the first model: only the
number of rounds limits how far it goes.

A round is an experience: its first step has a new optimiser, and warm-up and decay are laid over it. `beta` may be a
list with one number for each round, as in the paper: 0.01, 0.1, 1.

Use it where an online reward ranks completions, and rounds of writing are what costs. It is not anchored preference
optimisation, which is called APO as well.

Metrics: those of every online method, where `clip_fraction` is 0: nothing is clipped; `accuracy` share of
pairs with u_w > u_l (in a round's first step both are 0 but for rounding), `margin` beta (u_w - u_l), `chosen_rewards`
and `rejected_rewards` beta u, `beta` of the round.

Departures: the default beta is DPO's usual 0.1 for every round. The paper does not say where a round's training starts
(unconfirmed); it is theta_k here, where all log-ratios are 0. Its inner SPPO is in units of beta u, beta^2 times ours
with the same minimiser. Log-probabilities are taken at the temperature of writing, as everywhere here. Every experience
asks for the next prompts, not for a third of the data; AdamW instead of RMSprop is the recipe's choice. With an adapter
the jump is that of its matrices, B A, and stands beside the factors, which learn on from their solution: the last
policy is in final/ as an adapter of r times as many ranks as there were rounds. DoRA is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from align.batches import Rivals, Sampled
from align.functional.games import EVEN
from align.functional.preference import identity_loss, logistic_loss, pair_metrics, self_play_loss
from align.functional.selection import best_against_worst, with_worst
from align.methods.base import (
    Loss,
    OnlineMethod,
    Term,
    drift,
    metric,
    per_token,
    policy_report,
    remembered,
)
from align.needs import BEGIN_AGAIN, LEARNS, Move, in_round, of_round
from align.system.ranges import Positive, ShareBelowOne


def dpo(chosen: Tensor, rejected: Tensor, beta: float) -> Tensor:
    return logistic_loss(beta * (chosen - rejected), 1.0)


def ipo(chosen: Tensor, rejected: Tensor, beta: float) -> Tensor:
    return identity_loss(chosen - rejected, 1.0, beta)


def sppo(chosen: Tensor, rejected: Tensor, beta: float) -> Tensor:
    return (self_play_loss(chosen, EVEN, beta) + self_play_loss(rejected, -EVEN, beta)) / 2


INNER = {"dpo": dpo, "ipo": ipo, "sppo": sppo}  # log-ratios of the better and of the worse (B,), beta -> (B,)


@dataclass(frozen=True, kw_only=True)
class AcceleratedPO(OnlineMethod[Rivals[Sampled]]):
    name = "accelerated_po"
    paper = "arXiv:2410.06293"
    smallest_group = 2  # the best against the worst
    rounds = True

    inner: Literal["dpo", "ipo", "sppo"] = "dpo"
    beta: Positive | tuple[Positive, ...] = of_round(0.1)  # what a nat to the round's start costs; or one a round
    extrapolation_alpha: ShareBelowOne = 0.3  # how far beyond its solution the next round begins
    num_rounds: float = remembered(told=True)  # that are over

    @property
    def correction_levels(self) -> tuple[str, ...]:
        return ()  # advantages are not what it learns by

    def moves(self) -> Sequence[Move]:
        jump = Move(LEARNS, "extrapolate", "before writing", rate=self.extrapolation_alpha, unit="experience")
        return (jump, BEGIN_AGAIN) if self.extrapolation_alpha else (BEGIN_AGAIN,)

    def controllers(self, rollouts: Rivals[Sampled], /) -> Mapping[str, float]:
        return {"num_rounds": self.num_rounds + 1}

    def advantages(self, rollouts: Rivals[Sampled]) -> Rivals[Sampled]:
        """1/2 of the better one of a pair, -1/2 of the worse one, else 0; told, not learned by."""
        best, against = best_against_worst(rollouts.rewards, rollouts.groups)
        found = torch.zeros_like(rollouts.rewards)
        found[best], found[against[best]] = EVEN, -EVEN
        return per_token(rollouts, found)

    def keep(self, rollouts: Rivals[Sampled]) -> Tensor:
        return with_worst(*best_against_worst(rollouts.rewards, rollouts.groups))

    def loss(self, batch: Rivals[Sampled]) -> Loss:
        best, against = best_against_worst(batch.rewards, batch.groups)
        moved, beta = drift(batch.completion).sum(-1), in_round(self.beta, self.num_rounds)
        losses = INNER[self.inner](moved, moved[against], beta)
        told = pair_metrics(beta * moved, beta * moved[against]) | {"beta": torch.full_like(moved, beta)}
        report = policy_report(batch, torch.zeros_like(best)) | {n: metric(v, best) for n, v in told.items()}
        return Loss(Term(losses, best)).report(report)
