"""On-policy distillation: the policy writes, and a frozen teacher says of each token how much likelier it finds it.

Agarwal, Vieillard, Zhou, Stanczyk, Ramos, Geist, Bachem, "On-Policy Distillation of Language Models: Learning from
Self-Generated Mistakes", 2023, arXiv:2306.13649, algorithm 1 (GKD) with lambda 1 (all completions are the policy's)
and the reverse KL as its divergence, estimated at the tokens that were written:

    A_t  = log pi_teacher(y_t) - log pi_old(y_t)
    rho_t = pi(y_t) / pi_old(y_t)
    loss = max(-A_t rho_t, -A_t clip(rho_t, 1 - clip_range, 1 + clip_range))

averaged over all tokens of the step. With one step per experience rho is 1, and the gradient is -A_t grad log pi(y_t),
whose mean over y_t is the gradient of KL(pi || pi_teacher) after y_1 .. y_{t-1}. As in the paper that a token changes
what is written after it teaches nothing: the reward of a token is its own, and no later one counts. What the reward
functions say is told, and not learned from. The teacher (`model.roles: {teacher: FOLDER}`) has the policy's tokens.

Metrics: those of every online method, where `clip_fraction` is the share of tokens whose gradient the clip has taken;
`teacher_kl` mean log pi_old - log pi_teacher of a token, the k1 estimate of KL(pi_old || pi_teacher).

Departures: the paper sums its divergence over the vocabulary. Here the token that was written stands for that sum: an
unbiased estimate of the same gradient, with more variance. The paper's other divergences and its data that others wrote
(lambda below 1) need whole distributions, and are not here. The paper averages over the tokens of a completion, and
then over completions. The ratio and its clip, without effect at one step per
experience, are what several steps need; A_t then stays that of the policy that wrote.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from align.batches import Rollouts, Sampled
from align.functional.masked import kept
from align.functional.surrogate import clipped_surrogate, is_clipped
from align.methods.base import Loss, OnlineMethod, Term, drift, metric, policy_report
from align.system.ranges import Positive


@dataclass(frozen=True, kw_only=True)
class Taught(Sampled):
    """With the log-probabilities of the teacher."""

    teacher_logps: Float[Tensor, "B T"]


@dataclass(frozen=True, kw_only=True)
class OPD(OnlineMethod[Rollouts[Taught]]):
    name = "opd"
    paper = "arXiv:2306.13649"
    learns_from_rewards = False

    clip_range: Positive = 0.2  # of the ratio of a token

    def advantages(self, rollouts: Rollouts[Taught]) -> Rollouts[Taught]:
        return dataclasses.replace(rollouts, advantages=_liked(rollouts.completion))

    def loss(self, batch: Rollouts[Taught]) -> Loss:
        completion, advantages = batch.completion, batch.advantages
        log_ratio, low, high = drift(completion), 1 - self.clip_range, 1 + self.clip_range
        loss = Loss(Term(clipped_surrogate(log_ratio, advantages, low, high), completion.mask))
        report = policy_report(batch, is_clipped(log_ratio, advantages, low, high))
        return loss.report(report | {"teacher_kl": metric(-_liked(completion), completion.mask)})


def _liked(completion: Taught) -> Tensor:
    """(B, T): log pi_teacher - log pi_old of each kept token, 0 elsewhere."""
    return kept(completion.teacher_logps - completion.old_logps, completion.mask)
