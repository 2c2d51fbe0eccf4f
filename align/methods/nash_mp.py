"""Nash-MP: the policy that no other beats, by self-play that pays for KL to the reference and to a slow target.

Tiapkin, Calandriello, Belomestny, Moulines, Naumov, Rasul, Valko, Menard, arXiv:2505.19731: version 1 (2025),
"Accelerating Nash Learning from Human Feedback via Mirror Prox", is the method of this name; version 2 (2026) has
another title and method (Nash Prox, the proximal point). Rewards are those of a game, P(y beats y'), which need not be
transitive. One step about a centre c, against an opponent o, is

    S(c, o) = argmin_pi P(o beats pi) + beta KL(pi | ref) + beta / eta KL(pi | c)

and mirror prox is a look-ahead S(c, c) and then, from the same centre, the step S(c, look-ahead). The target is c:

    d_t  = log pi_old(y_t) - log pi_ref(y_t)          e_t = log pi_old(y_t) - log pi_target(y_t)
    A_t  = (p - 1/2) - beta sum_{s >= t} d_s - beta / eta sum_{s >= t} e_s
    r_t  = pi(y_t) / pi_old(y_t)
    loss = sum_t max(-A_t r_t, -A_t clip(r_t, 1 - clip_range, 1 + clip_range))

averaged over completions. p is how often a completion beats its opponents (reward `win_rate`): 1/2 is what a policy
earns against itself, so there is no critic and no other baseline. The weight of a token has the KL that is still to
come in it; with d_t and e_t alone the gradient would be wrong for all tokens but the last.

`form: one_step`: opponents are the other completions of the prompt. The target is a copy of the policy, made anew every
`target_every` steps (`target: hard`: the proximal point method, so many steps to each), or one that goes `kappa` of the
way to the policy after every step (`target: ema`).
`form: two_step`: `target_every` steps against the policy as it was at their beginning, the target, give the look-ahead;
weights and moments are then put back, and as many steps against what the look-ahead writes give the next centre. The
opponents are written for it, as many as the prompt has completions, and never learned from; the schedule of the
learning rate goes on. This costs twice the writing, and memory for two copies and the moments.

Theory wants beta <= 1/2 and eta <= 2 beta, and returns the last policy: KL(pi* | pi_k) then shrinks by 1 / (1 + eta)
with every centre. The target of the end is in the run folder as well, in copies/target. An eta of infinity has no
target; a target that is the reference makes beta (1 + 1 / eta) of beta. With eta_EGPO = eta / (beta (1 + eta)) the
exact iterates are those of EGPO (arXiv:2503.08942).

Metrics: those of every online method, and `target_kl` log pi_old - log pi_target, summed over a completion. `reward` of
evaluations is how often the greedy completion beats that of the reference.

Departures: the authors have published no code; how their runs used the target, its schedule, kappa and beta are
unconfirmed, and the defaults here are not theirs. A_t is that of the policy that wrote: exact where an experience lasts
one step, for there it still is the policy; otherwise the ratio corrects for the steps since, as in PPO, and the clip is
ours. Steps of an optimiser stand for the exact argmin. Nash-MD's mixture of policy and reference does not write here.
Of an adapter `ema` averages the factors, whose product is not the average of the products; `hard` is exact.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from align.batches import Anchored, Ask, Rollouts
from align.functional.games import win_advantages
from align.functional.masked import kept, masked_sum
from align.functional.surrogate import clipped_surrogate, is_clipped
from align.methods.base import Loss, OnlineMethod, distance, drift, metric, policy_report, require, weight
from align.needs import Move
from align.system.ranges import AtLeastOne, Positive, ShareAboveZero

OPPONENT = "opponent"  # the copy that writes what the policy is to beat


@dataclass(frozen=True, kw_only=True)
class Aimed(Anchored):
    """With the log-probabilities of a copy of the policy that follows it slowly."""

    target_logps: Float[Tensor, "B T"]


@dataclass(frozen=True, kw_only=True)
class NashMP(OnlineMethod[Rollouts[Aimed]]):
    name = "nash_mp"
    paper = "arXiv:2505.19731"
    smallest_group = 2  # completions are compared
    plays = True

    beta: Positive = weight(0.1, of="old ref target")  # what a nat of KL from the reference costs, in games won
    eta: Positive = 1.0  # beta / eta is what a nat of KL from the target costs
    form: Literal["one_step", "two_step"] = "one_step"
    target: Literal["hard", "ema"] = "hard"
    target_every: AtLeastOne = 50  # steps to a target, of each half of `two_step`; of `hard`
    kappa: ShareAboveZero = 0.01  # of the way to the policy, after every step; of `ema`
    clip_range: Positive = 0.2  # without effect at one step per experience

    def __post_init__(self):
        super().__post_init__()
        both = self.form == "two_step" and self.target == "ema"
        require(not both, self, "target", "hard where form is two_step: its centre stands still")

    @property
    def wants_rates(self) -> bool:
        return True

    def moves(self) -> Sequence[Move]:
        half = self.target_every
        if self.form == "two_step":
            begins = "before writing"
            return (
                Move(OPPONENT, "copy", when=begins, every=half),  # the centre, and then the look-ahead
                Move("target", "copy", when=begins, every=2 * half),
                Move("policy", "take", when=begins, every=2 * half),
                Move("policy", "put back", when=begins, every=2 * half, at=half),
            )
        if self.target == "ema":
            return (Move("target", "average", when="after step", rate=self.kappa),)
        return (Move("target", "copy", when="after step", every=half, at=half - 1),)

    def writers(self) -> Sequence[str]:
        return (OPPONENT,) if self.form == "two_step" else ()

    def resample(self, rollouts: Rollouts[Aimed]) -> list[Ask]:
        """As many opponents for each prompt as it has completions, where they are not the others of the prompt."""
        if self.form == "one_step":
            return []
        groups = rollouts.groups
        answered = torch.isin(groups, groups[rollouts.auxiliary])
        first = (groups.diff(prepend=groups.new_full((1,), -1)) != 0) & ~answered
        return [Ask(int(i), int((groups == groups[i]).sum()), writer=OPPONENT) for i in first.nonzero()]

    def advantages(self, rollouts: Rollouts[Aimed]) -> Rollouts[Aimed]:
        written = rollouts.completion
        charged = self.beta * distance(written) + self.beta / self.eta * _strayed(written)
        return dataclasses.replace(rollouts, advantages=win_advantages(rollouts.rewards, charged, written.mask))

    def loss(self, batch: Rollouts[Aimed]) -> Loss:
        written, advantages = batch.completion, batch.advantages
        log_ratio, low, high = drift(written), 1 - self.clip_range, 1 + self.clip_range
        loss = Loss(masked_sum(clipped_surrogate(log_ratio, advantages, low, high), written.mask))
        report = policy_report(batch, is_clipped(log_ratio, advantages, low, high))
        return loss.report(report | {"target_kl": metric(_strayed(written).sum(-1), written.mask.any(-1))})


def _strayed(written: Aimed) -> Tensor:
    """(B, T): log pi_old - log pi_target of each kept token, 0 elsewhere."""
    return kept(written.old_logps - written.target_logps, written.mask)
