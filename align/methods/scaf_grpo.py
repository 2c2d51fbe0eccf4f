"""Scaf-GRPO: GRPO that tells a hint where a prompt's completions all fail, and learns from the one that then succeeds.

Zhang, Wu et al., "Scaf-GRPO: Scaffolded Group Relative Policy Optimization for Enhancing LLM Reasoning", 2025,
arXiv:2510.19807. A prompt whose rewards are all 0 teaches GRPO nothing (or all below 0 and equal, where failures are
punished). After the first `num_exempt` experiences such a prompt is asked again with its hints, one completion by the
policy of now for each, from the least hint to the most (the data column `hints`, in that order), until one earns more
than 0. That completion, with the prompt that was told the hint, takes the place of one of those that failed, and
everything else is GRPO without a KL (what `reward.shape` does to a reward counts in A, and not in whether one failed):

    A_i  = (reward_i - mean of the group) / (standard deviation of the group + 1e-4)
    loss = mean_t max(-A_i rho_t, -A_i clip(rho_t, 1 - clip_range, 1 + clip_range))

averaged over the tokens of a completion, then over completions; rho_t = pi(y_t) / pi_old(y_t), both given the prompt
that the completion was written for. Where no hint helps nothing changes. Use it for data with problems out of reach.

Metrics: those of every online method; `hinted` the share of a step's completions that were told a hint, `auxiliary` how
many were asked for in an experience.

Departures: the paper replaces one of the failed completions at random; here it is the first, which is as random: they
were drawn alike and have all failed. The authors' code writes for all hints at once (`hints_at_once`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from jaxtyping import Int
from torch import Tensor

from align.batches import Ask, Member, Rollouts, Sampled, of_completion
from align.functional.advantages import group_normalised
from align.functional.masked import masked_mean
from align.functional.surrogate import clipped_surrogate, is_clipped
from align.methods.base import Loss, OnlineMethod, drift, metric, per_token, policy_report, remembered
from align.system.ranges import AtLeastOne, Count, Positive

C = TypeVar("C", bound=Member)


@dataclass(frozen=True, kw_only=True)
class Hinted(Rollouts[C], Generic[C]):
    """Completions, and further ones whose prompt was told a hint."""

    hinted = True

    hints: Int[Tensor, " B"] = of_completion("hint", lambda c: c.written.hint, 0.0)  # counted from 1; 0: none
    num_hints: Int[Tensor, " B"] = of_completion("num_hints", lambda c: c.written.num_hints, 0.0)  # that the data have


@dataclass(frozen=True, kw_only=True)
class ScafGRPO(OnlineMethod[Hinted[Sampled]]):
    name = "scaf_grpo"
    paper = "arXiv:2510.19807"
    smallest_group = 2  # one completion has no spread

    num_exempt: Count = 50  # first experiences, without hints; the paper: 15 % of a run
    hints_at_once: AtLeastOne = 1  # of those that are left, before it is looked whether one has helped
    clip_range: Positive = 0.2  # how far from 1 a ratio still teaches
    num_seen: float = remembered()  # experiences so far

    def resample(self, rollouts: Hinted[Sampled]) -> list[Ask]:
        """The next hints of every prompt that none has helped yet."""
        if self.num_seen < self.num_exempt:
            return []
        asks: list[Ask] = []
        for rows in _by_group(rollouts.groups):
            own = rollouts.earned[rows[rollouts.hints[rows] == 0]]
            if not _lost(own) or (rollouts.earned[rows] > 0).any():
                continue
            told, known = int(rollouts.hints[rows].max()), int(rollouts.num_hints[rows[0]])
            more = range(told + 1, min(told + self.hints_at_once, known) + 1)
            asks += [Ask(int(rows[0]), hint=hint, learned=True) for hint in more]
        return asks

    def advantages(self, rollouts: Hinted[Sampled]) -> Hinted[Sampled]:
        member = self._members(rollouts)
        found = torch.zeros_like(rollouts.rewards)
        found[member] = group_normalised(rollouts.rewards[member], rollouts.groups[member])
        return per_token(rollouts, found)

    def keep(self, rollouts: Hinted[Sampled]) -> Tensor:
        return self._members(rollouts)

    def controllers(self, rollouts: Hinted[Sampled]) -> dict[str, float]:
        return {"num_seen": self.num_seen + 1}

    def _members(self, rollouts: Hinted[Sampled]) -> Tensor:
        """(B,) bool: the groups as they are learned from, the least hint that helped in place of a failure."""
        member = rollouts.hints == 0
        for rows in _by_group(rollouts.groups):
            failed = rows[rollouts.hints[rows] == 0]
            helped = rows[(rollouts.hints[rows] > 0) & (rollouts.earned[rows] > 0)]
            if len(failed) and len(helped) and _lost(rollouts.earned[failed]):
                member[helped[rollouts.hints[helped].argmin()]] = True
                member[failed[0]] = False
        return member

    def loss(self, batch: Hinted[Sampled]) -> Loss:
        completion, advantages = batch.completion, batch.advantages
        log_ratio, low, high = drift(completion), 1 - self.clip_range, 1 + self.clip_range
        losses = masked_mean(clipped_surrogate(log_ratio, advantages, low, high), completion.mask)
        report = policy_report(batch, is_clipped(log_ratio, advantages, low, high))
        return Loss(losses).report(report | {"hinted": metric((batch.hints > 0).float())})


def _lost(earned: Tensor) -> bool:
    """Whether a prompt's own completions have all failed alike; where they differ GRPO learns from them as they are."""
    return not (earned > 0).any() and bool((earned == earned[0]).all())


def _by_group(groups: Tensor) -> list[Tensor]:
    """The rows of each prompt."""
    return [torch.nonzero(groups == group)[:, 0] for group in range(int(groups.max()) + 1)]
