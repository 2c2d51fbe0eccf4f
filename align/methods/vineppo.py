"""VinePPO: PPO without a critic; the value of a step's beginning is the mean reward of completions begun there anew.

Kazemnejad, Aghajohari, Portelance, Sordoni, Reddy, Courville, Le Roux, "VinePPO: Refining Credit Assignment in RL
Training of LLMs", 2024, arXiv:2410.01679, as in the authors' code. A completion is cut into steps (`rollout.steps`);
s_j is what stands before step j + 1, s_0 the prompt:

    V(s_j) = mean reward of num_restarts completions that begin with s_j; 0 after the last step
    A of step j = r_j + V(s_j) - V(s_{j-1}),   r_j the completion's reward for the last step, otherwise 0

which all tokens of a step share; they are then whitened over all that was written.

    loss = mean_t max(-A_t rho_t, -A_t clip(rho_t, 1 - clip_range, 1 + clip_range))
           + kl_coef * mean over completions of sum_t clamp(k3_t(pi, pi_ref), 0, 10),   rho_t = pi(y_t) / pi_old(y_t)

Completions begun anew are rewarded, and never learned from. Equal states are asked for once. Use it where steps can be
judged by where they lead and time for writing is at hand: an experience costs some times what PPO's does.

Metrics: those of every online method; `policy` and `kl_penalty` the two terms, `auxiliary` and `auxiliary_tokens` what
was begun anew for an experience.

Departures: states are beginnings of token ids, not of text that is tokenised again, so they lie on the policy's way; a
token belongs to the step of its first character. Whitening is over the experience, not over a micro-batch. A
micro-batch with a mean ratio above 10 is not left out. The authors sample at temperature 0.6 and top-p 0.9; with the
latter what is estimated is not quite the policy's.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from align.batches import Anchored, Ask, Member, Rollouts, of_completion, prepared
from align.functional.advantages import step_advantages, whiten
from align.functional.kl import k3
from align.functional.masked import kept, masked_sum
from align.functional.surrogate import clipped_surrogate, is_clipped
from align.methods.base import Loss, OnlineMethod, Term, drift, policy_report, weight
from align.system.ranges import AtLeastOne, Count, NotNegative, Positive

C = TypeVar("C", bound=Member)


@dataclass(frozen=True, kw_only=True)
class Branching(Rollouts[C], Generic[C]):
    """Completions in steps, and further ones that begin where a step does. Equal states have equal numbers."""

    stepwise = True

    states: Int[Tensor, "B T"] = prepared()  # at tokens that begin a step, which state stands before it, from 1; else 0
    origins: Int[Tensor, " B"] = of_completion("origin", lambda c: c.origin, 0.0)  # where an auxiliary one begins
    estimates: Float[Tensor, "B T"] = prepared()  # the value of each state, where it stands


@dataclass(frozen=True, kw_only=True)
class VinePPO(OnlineMethod[Branching[Anchored]]):
    name = "vineppo"
    paper = "arXiv:2410.01679"

    num_restarts: AtLeastOne = 9  # completions that a state's value is the mean of
    max_states: Count = 0  # of a completion, its prompt aside, whose values are estimated; GSM8K: 25; 0: all
    kl_coef: NotNegative = weight(1e-4, of="ref")
    clip_range: Positive = 0.2  # how far from 1 a ratio still teaches

    def resample(self, rollouts: Branching[Anchored]) -> list[Ask]:
        """Restarts from every state that has none, for equal states once."""
        wanted = self._wanted(rollouts) & ~torch.isin(rollouts.states, rollouts.origins)
        asks: dict[int, Ask] = {}
        for row, token in torch.nonzero(wanted):
            asks.setdefault(int(rollouts.states[row, token]), Ask(int(row), self.num_restarts, given=int(token)))
        return list(asks.values())

    def advantages(self, rollouts: Branching[Anchored]) -> Branching[Anchored]:
        mask, begun = rollouts.completion.mask, rollouts.auxiliary
        size = int(torch.maximum(rollouts.states.max(), rollouts.origins.max())) + 1
        totals = rollouts.rewards.new_zeros(size).index_add(0, rollouts.origins[begun], rollouts.rewards[begun])
        means = totals / torch.bincount(rollouts.origins[begun], minlength=size).clamp(min=1)
        starts = (rollouts.states > 0) & mask
        raw, values = step_advantages(rollouts.rewards, means[rollouts.states], starts, self._wanted(rollouts), mask)
        advantages = whiten(raw, mask, unbiased=True)
        return dataclasses.replace(rollouts, advantages=advantages, estimates=values)

    def _wanted(self, rollouts: Branching[Anchored]) -> Tensor:
        """(B, T) bool: the states whose values are to be estimated."""
        states = (rollouts.states > 0) & rollouts.completion.mask
        return states & (states.cumsum(-1) <= self.max_states + 1) if self.max_states else states

    def loss(self, batch: Branching[Anchored]) -> Loss:
        completion, mask = batch.completion, batch.completion.mask
        log_ratio, low, high = drift(completion), 1 - self.clip_range, 1 + self.clip_range
        policy = clipped_surrogate(log_ratio, batch.advantages, low, high)
        apart = k3(kept(completion.logps - completion.ref_logps, mask)).clamp(0, 10)
        penalty = Term(masked_sum(apart, mask), mask.any(-1), self.kl_coef)
        loss = Loss(policy=Term(policy, mask), kl_penalty=penalty)
        return loss.report(policy_report(batch, is_clipped(log_ratio, batch.advantages, low, high)))
