"""D3S: GRPO on those completions, and those of their tokens, from which there is most to learn.

Wang, Yang, Tian et al., "Dynamic Dual-Level Down-Sampling for Policy Optimization", 2025, arXiv:2509.22115. Advantages
are GRPO's, over all that was written. Then are left out, before any step:

    completions: of the whole experience, prompts mixed, a share n stays, those with the largest variance of A
    tokens:      of theirs, a share k stays, those with the largest |A_i| H_t, H the entropy of the policy that wrote
    loss = mean over what is left of max(-A_i rho_t, -A_i clip(rho_t, 1 - clip_range, 1 + clip_range))

and A is not normalised again. n and k go linearly from their first to their last values during `horizon` experiences,
and stay there. Use it where most completions of an experience teach the same.

Metrics: those of every online method, over the tokens that are left; `kept` is the share of completions of which
something is left.

Departures: the paper's text was not to be had whole, and its code not at all: the shares' values are ours, as are
rounding (completions to the nearest, half up; tokens up) and ties (the first). Over GSPO's loss it is not offered.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from align.batches import Rollouts, Sampled
from align.functional.advantages import group_normalised
from align.functional.selection import largest, most_varied
from align.functional.surrogate import clipped_surrogate, is_clipped
from align.methods.base import (
    Loss,
    OnlineMethod,
    Term,
    drift,
    of_completion,
    per_token,
    policy_report,
    remembered,
)
from align.system.ranges import AtLeastOne, Positive, ShareAboveZero


@dataclass(frozen=True, kw_only=True)
class Hesitant(Sampled):
    """With the entropy of the policy (nats) when the token was written."""

    old_entropies: Float[Tensor, "B T"]


@dataclass(frozen=True, kw_only=True)
class D3S(OnlineMethod[Rollouts[Hesitant]]):
    name = "d3s"
    paper = "arXiv:2509.22115"
    smallest_group = 2  # one completion has no spread

    first_completions: ShareAboveZero = 0.25  # share of completions that stays in the first experience
    last_completions: ShareAboveZero = 0.75  # after `horizon` of them
    first_tokens: ShareAboveZero = 0.1  # share of their tokens
    last_tokens: ShareAboveZero = 0.5  # likewise at the end
    horizon: AtLeastOne = 100  # experiences
    clip_range: Positive = 0.2  # how far from 1 a ratio still teaches
    num_seen: float = remembered()  # experiences so far

    def advantages(self, rollouts: Rollouts[Hesitant]) -> Rollouts[Hesitant]:
        return per_token(rollouts, group_normalised(rollouts.rewards, rollouts.groups))

    def keep(self, rollouts: Rollouts[Hesitant]) -> Tensor:
        completions, tokens = self.shares()
        count = math.floor(completions * len(rollouts) + 0.5)
        mask = rollouts.completion.mask & most_varied(of_completion(rollouts), max(count, 1))[:, None]
        return largest(rollouts.advantages.abs() * rollouts.completion.old_entropies, mask, tokens)

    def shares(self) -> tuple[float, float]:
        """Of completions and of their tokens that stay in the next experience."""
        gone = min(self.num_seen / self.horizon, 1.0)
        pairs = (self.first_completions, self.last_completions), (self.first_tokens, self.last_tokens)
        completions, tokens = (first + gone * (last - first) for first, last in pairs)
        return completions, tokens

    def controllers(self, rollouts: Rollouts[Hesitant]) -> dict[str, float]:
        return {"num_seen": self.num_seen + 1}

    def loss(self, batch: Rollouts[Hesitant]) -> Loss:
        log_ratio, low, high = drift(batch.completion), 1 - self.clip_range, 1 + self.clip_range
        losses = clipped_surrogate(log_ratio, batch.advantages, low, high)
        report = policy_report(batch, is_clipped(log_ratio, batch.advantages, low, high))
        return Loss(Term(losses, batch.completion.mask)).report(report)
