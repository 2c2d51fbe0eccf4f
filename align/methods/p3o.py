"""P3O: the policy gradient of the difference of two rewards, so that what a prompt earns as such does not matter.

Wu et al., "Pairwise Proximal Policy Optimization: Harnessing Relative Feedback for LLM Alignment", 2023,
arXiv:2310.00212, as in the first author's code. For two completions 1, 2 of a prompt, with sums over tokens

    g_i = log pi(y_i) - log pi_ref(y_i),   w_i = pi(y_i) / pi_old(y_i),   q = r_1 - r_2 - kl_coef (g_1 - g_2)

where q is of the policy of now, without gradient. `clip: joint` (the authors' V2), d = g_1 - g_2, d_old when written:

    W    = w_1 w_2 within [1 / max_weight, max_weight], without gradient
    loss = max(-q W d, -q W clip(d, d_old - clip_range, d_old + clip_range)) / 2

`clip: separate` (V1), a_i = w_i within [1 / max_weight, max_weight], without gradient:

    loss = [max(-q a_2 w_1, -q a_2 clip(w_1, 1 - clip_range, 1 + clip_range)) + the same of 2 with -q, a_1] / 2

averaged over pairs. `clip: token` (an option of the authors' later code), of each token t of the first completion, and
with -q of the second, averaged over tokens:

    loss = max(-q W log pi(y_t), -q W clip(log pi(y_t), log pi_old(y_t) - clip_range, log pi_old(y_t) + clip_range))

There is no critic, nothing is whitened, and the KL is charged to whole completions.

Use it where rewards of different prompts are on different scales, as those of a reward model are.

Metrics: those of every online method, where `clip_fraction` is the share of a completion's pairs whose gradient the
clip has taken; `pair_weight` mean w_1 w_2 as it is used.

Departures: the authors draw two completions; here all pairs of a prompt are taken, each completion counting once. Their
code also scales rewards by a running standard deviation (see `reward.shape`), and scales q as an option, which is left
out. Which of the two clippings the paper's tables used is unconfirmed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from align.batches import Anchored, Rivals
from align.functional.masked import kept
from align.functional.pairing import differences, pair_means, partners
from align.functional.surrogate import clipped_surrogate, is_clipped, ratio_of
from align.methods.base import Loss, OnlineMethod, Term, drift, metric, policy_report, weight
from align.system.ranges import AboveOne, NotNegative, Positive

Made = tuple[Tensor, Tensor, Tensor]  # (B, B): losses, what share of the gradient the clip has taken, weights


@dataclass(frozen=True, kw_only=True)
class P3O(OnlineMethod[Rivals[Anchored]]):
    name = "p3o"
    paper = "arXiv:2310.00212"
    smallest_group = 2  # completions are compared in pairs

    kl_coef: NotNegative = weight(0.05, of="ref")  # what a nat of divergence from the reference costs, in reward
    clip: Literal["joint", "separate", "token"] = "joint"
    clip_range: Positive = 0.2  # of differences of log-ratios (joint), of each ratio, or of log-ratios of tokens
    max_weight: AboveOne = 10.0  # bounds the importance weights to [1 / max_weight, max_weight]

    @property
    def correction_levels(self) -> tuple[str, ...]:
        return ()  # weights are within the loss

    def advantages(self, rollouts: Rivals[Anchored]) -> Rivals[Anchored]:
        return rollouts  # they move with the policy: see `loss`

    def loss(self, batch: Rivals[Anchored]) -> Loss:
        completion, paired = batch.completion, partners(batch.groups)
        rows = paired.any(-1)  # where the others of a prompt are left out there is nothing to compare with
        moved = drift(completion).sum(-1)
        apart = kept(completion.logps - completion.ref_logps, completion.mask).sum(-1)
        gains = differences(batch.rewards - self.kl_coef * apart.detach(), paired)
        if self.clip == "token":
            return self._tokens(batch, moved, gains, paired)
        if self.clip == "joint":
            losses, clipped, weights = self._joint(moved, apart, gains, paired)
        else:
            losses, clipped, weights = self._separate(moved, gains)
        report = policy_report(batch, rows)
        report["clip_fraction"] = metric(pair_means(clipped.to(losses.dtype), paired), rows)
        report["pair_weight"] = metric(pair_means(weights, paired), rows)
        return Loss(Term(pair_means(losses, paired), rows)).report(report)

    def _joint(self, moved: Tensor, apart: Tensor, gains: Tensor, paired: Tensor) -> Made:
        weights = self._bounded(moved[:, None] + moved[None, :])
        now, change = differences(apart, paired), differences(moved, paired)
        then = (now - change).detach()
        near = torch.minimum(torch.maximum(now, then - self.clip_range), then + self.clip_range)
        pull = gains * weights
        losses = torch.maximum(-pull * now, -pull * near) / 2
        clipped = (gains * change > 0) & (change.abs() > self.clip_range)
        return losses, clipped, weights

    def _separate(self, moved: Tensor, gains: Tensor) -> Made:
        bounded = self._bounded(moved)
        first, second = moved[:, None].expand_as(gains), moved[None, :].expand_as(gains)
        of_first, of_second = gains * bounded[None, :], -gains * bounded[:, None]
        edges = 1 - self.clip_range, 1 + self.clip_range
        losses = clipped_surrogate(first, of_first, *edges) + clipped_surrogate(second, of_second, *edges)
        clipped = (is_clipped(first, of_first, *edges).float() + is_clipped(second, of_second, *edges).float()) / 2
        return losses / 2, clipped, bounded[:, None] * bounded[None, :]

    def _tokens(self, batch: Rivals[Anchored], moved: Tensor, gains: Tensor, paired: Tensor) -> Loss:
        """max(-p a, -p b) is -p min(a, b) where p is above 0, otherwise -p max(a, b): so pairs add up for a token."""
        completion, weights = batch.completion, self._bounded(moved[:, None] + moved[None, :])
        pull = gains * weights
        up, down = (pair_means(p, paired)[:, None] for p in (pull.clamp(min=0), pull.clamp(max=0)))
        now, then = kept(completion.logps, completion.mask), kept(completion.old_logps, completion.mask)
        near = torch.minimum(torch.maximum(now, then - self.clip_range), then + self.clip_range)
        losses = -up * torch.minimum(now, near) - down * torch.maximum(now, near)
        clipped = ((now > near) & (up > 0)) | ((now < near) & (down < 0))
        rows = paired.any(-1)
        tokens = completion.mask & rows[:, None]
        report = policy_report(batch, clipped) | {"pair_weight": metric(pair_means(weights, paired), rows)}
        report["clip_fraction"] = metric(clipped, tokens)
        return Loss(Term(losses, tokens)).report(report)

    def _bounded(self, log_weights: Tensor) -> Tensor:
        return ratio_of(log_weights.detach()).clamp(1 / self.max_weight, self.max_weight)
