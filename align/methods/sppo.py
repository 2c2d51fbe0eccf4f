"""Self-play preference optimisation: in rounds, completions gain by how often they win against those beside them.

Wu, Sun, Yuan, Ji, Yang, Gu, "Self-Play Preference Optimization for Language Model Alignment", 2024, arXiv:2405.00675,
with the settings of the authors' code (uclaml/SPPO). With pi_old the policy at the start of a round (the paper's pi_t),
for each completion

    p    = mean over the K completions of its prompt, itself among them, of P(it beats one),   P(itself) = 1/2
    u    = sum_t [log pi(y_t) - log pi_old(y_t)]
    loss = (u - (p - 1/2) / beta)^2

averaged over completions. The exact step is pi proportional to pi_old exp(p / beta), its log Z taken as 1 / (2 beta).
Of each prompt the best and the worst are learned from (`learned: pair`; half the sum of both squares, averaged over
pairs, is the mean over them); prompts whose completions are equal are left out. `all` learns from all K, as the paper
explains it.

A round is an experience: its first step has a new optimiser, and warm-up and decay are laid over it. `beta` may be a
list with one number for each round. Use it where who wins has no order that a single reward could have (A beats B beats
C beats A), or as self-play on a reward model. There is no anchor to the first model: watch lengths.

`reward_is: score` takes the reward for the score of a pairwise ranker, P = sigmoid(s_i - s_j); `win_rate` takes it for
what the reward `win_rate` says, which knows other judges. `outcomes`: `soft` is p; `single` is P of the best against
the worst; `hard` is 1 and 0.

Metrics: those of every online method, where `clip_fraction` is 0: nothing is clipped; `residual` mean
|u - (p - 1/2) / beta|, `chosen_rewards` and `rejected_rewards` beta u of completions that win more and less than half
the time, `beta` of the round.

Departures: log-probabilities are taken at the temperature of writing, as everywhere here; theirs at 1. AdamW instead of
their RMSprop is the recipe's choice. How many epochs their published checkpoints took is unconfirmed; here a round has
`rollout.num_iterations` passes, and every experience asks for the next prompts, not for a third of the data. Where a
round has more steps than prompts with a pair, all its completions are learned from, by their own p.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from align.batches import Rollouts, Sampled
from align.functional.games import EVEN, gains_by_rates, gains_by_scores
from align.functional.preference import self_play_loss
from align.functional.selection import best_against_worst, with_worst
from align.methods.base import (
    Loss,
    OnlineMethod,
    Term,
    drift,
    metric,
    of_completion,
    per_token,
    policy_report,
    remembered,
    require,
)
from align.needs import BEGIN_AGAIN, Move, in_round, of_round
from align.system.ranges import Positive


@dataclass(frozen=True, kw_only=True)
class SPPO(OnlineMethod[Rollouts[Sampled]]):
    name = "sppo"
    paper = "arXiv:2405.00675"
    smallest_group = 2  # completions win against each other
    rounds = True

    beta: Positive | tuple[Positive, ...] = of_round(1e-3)  # 1 / eta: win rate that a nat costs; or one a round
    outcomes: Literal["soft", "single", "hard"] = "soft"
    learned: Literal["pair", "all"] = "pair"
    reward_is: Literal["score", "win_rate"] = "score"
    num_rounds: float = remembered(told=True)  # that are over

    def __post_init__(self):
        super().__post_init__()
        pair = self.outcomes != "soft"
        require(not (pair and self.learned == "all"), self, "learned", f"pair where outcomes are {self.outcomes}")
        known = self.reward_is == "score"
        require(known or self.outcomes != "single", self, "outcomes", "soft or hard where only win rates are known")

    @property
    def correction_levels(self) -> tuple[str, ...]:
        return ()  # a square

    @property
    def wants_rates(self) -> bool:
        return self.reward_is == "win_rate"

    def moves(self) -> Sequence[Move]:
        return (BEGIN_AGAIN,)

    def controllers(self, rollouts: Rollouts[Sampled], /) -> Mapping[str, float]:
        return {"num_rounds": self.num_rounds + 1}

    def advantages(self, rollouts: Rollouts[Sampled]) -> Rollouts[Sampled]:
        """p - 1/2."""
        rewards, groups = rollouts.rewards, rollouts.groups
        if self.outcomes == "soft":
            gains = gains_by_rates if self.reward_is == "win_rate" else gains_by_scores
            return per_token(rollouts, gains(rewards, groups))
        best, against = best_against_worst(rewards, groups)
        won = torch.full_like(rewards, EVEN)
        if self.outcomes == "single":
            won = (rewards - rewards[against]).sigmoid() - EVEN
        found = torch.zeros_like(rewards)
        found[best], found[against[best]] = won[best], -won[best]
        return per_token(rollouts, found)

    def keep(self, rollouts: Rollouts[Sampled]) -> Tensor:
        if self.learned == "all":
            return torch.ones(len(rollouts), dtype=torch.bool)
        return with_worst(*best_against_worst(rollouts.rewards, rollouts.groups))

    def loss(self, batch: Rollouts[Sampled]) -> Loss:
        beta, rows = in_round(self.beta, self.num_rounds), batch.completion.mask.any(-1)
        moved, gains = drift(batch.completion).sum(-1), of_completion(batch)
        report = policy_report(batch, torch.zeros_like(rows)) | {
            "residual": metric((moved - gains / beta).abs(), rows),
            "chosen_rewards": metric(beta * moved, rows & (gains > 0)),
            "rejected_rewards": metric(beta * moved, rows & (gains < 0)),
            "beta": metric(torch.full_like(moved, beta), rows),
        }
        return Loss(Term(self_play_loss(moved, gains, beta), rows)).report(report)
