"""T-PPO: PPO that learns from a window of each long completion, and goes on writing in the next experience.

Fan, Liu, Yue, Chen, Wang, Yu, Zhang et al., "Truncated Proximal Policy Optimization", 2025, arXiv:2506.15050. There is
no public code. An experience has `rollout.window` more tokens of every completion under way; those that have ended are
rewarded on their last token, and their places go to the next prompts:

    A = generalised advantage estimation up to the last token written; after it the value is 0 where a completion has
        ended, and where it goes on that of the state before its last token: V_n := V_{n-1} (EGAE)
    R = what the completion earned from there on, lambda 1
    policy = max(-A_t rho_t, -A_t clip(rho_t, 1 - clip_low, 1 + clip_high)) over the tokens of this window
    value  = (V - R)^2 / 2 over all tokens of the completions that have ended
    loss = policy + value_coef * value

each averaged over its tokens, so that a token is learned from once by the policy. Use it where a few long completions
would hold up all others. Short completions end first: rewards early in training are of those.

Metrics: those of every online method, over this window's tokens; `policy` and `value` the two terms; `unfinished` and
`begun_before` are shares of an experience's completions, `reward` is of those that have ended.

Departures: where the paper is silent, lambda, the clip range and the mean over tokens are ours, and advantages are as
they are: whitened, those of 0 would push too. The last token of a window is never learned from, so a window should be
many tokens. A completion cut at its greatest length has ended. `bootstrap: zero`
takes 0 after the last token instead, which punishes every completion that goes on.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from align.batches import CriticRollouts, Member, Valued, of_completion, prepared
from align.functional.advantages import final_rewards, gae, gae_and_returns, whiten
from align.functional.masked import kept, last_kept
from align.functional.surrogate import clipped_surrogate, is_clipped
from align.methods.base import Loss, OnlineMethod, Term, drift, policy_report, value_term
from align.system.ranges import NotNegative, Positive, Share

C = TypeVar("C", bound=Member)


@dataclass(frozen=True, kw_only=True)
class Windowed(CriticRollouts[C], Generic[C]):
    """Completions that are written a window at a time; one that is not at its end goes on in the next experience."""

    windowed = True

    starts: Int[Tensor, " B"] = of_completion("start", lambda c: c.written.given, 0.0)  # tokens that were there before
    done: Bool[Tensor, " B"] = of_completion("done", lambda c: c.written.done, 1.0)  # at its end, and rewarded
    window: Bool[Tensor, "B T"] = prepared()  # the tokens that were written in this experience

    @property
    def fresh(self) -> Bool[Tensor, "B T"]:
        return self.window

    @property
    def ended(self) -> Bool[Tensor, " B"]:
        return self.done


@dataclass(frozen=True, kw_only=True)
class TPPO(OnlineMethod[Windowed[Valued]]):
    name = "t_ppo"
    paper = "arXiv:2506.15050"

    gamma: Share = 1.0  # what a token's reward counts one token earlier; 1: as much
    lam: Share = 0.95  # 0 believes the critic's next value, 1 what came in the end
    whiten: bool = False  # true moves what is worth nothing, such as the last token of a window, away from 0
    bootstrap: Literal["hold", "zero"] = "hold"  # the value after the last token of a completion that goes on
    clip_low: Positive = 0.2  # how far below 1 a ratio still teaches
    clip_high: Positive = 0.2  # likewise above
    value_coef: NotNegative = 1.0  # weight of the critic's loss

    def advantages(self, rollouts: Windowed[Valued]) -> Windowed[Valued]:
        written, mask = rollouts.completion, rollouts.completion.mask
        values, rewards = kept(written.old_values, mask), final_rewards(rollouts.rewards, mask)
        newest = values.gather(1, last_kept(mask).clamp(min=0)[:, None])[:, 0]
        goes_on = ~rollouts.done if self.bootstrap == "hold" else torch.zeros_like(rollouts.done)
        raw = gae(rewards, values, mask, self.gamma, self.lam, after=torch.where(goes_on, newest, 0.0))
        _, returns = gae_and_returns(rewards, values, mask, self.gamma, lam=1.0)
        window = mask & (mask.cumsum(-1) > rollouts.starts[:, None])
        advantages = whiten(raw, window) if self.whiten else raw.masked_fill(~window, 0.0)
        return dataclasses.replace(rollouts, advantages=advantages, returns=returns, window=window)

    def keep(self, rollouts: Windowed[Valued]) -> Tensor:
        return rollouts.window | rollouts.done[:, None]

    def loss(self, batch: Windowed[Valued]) -> Loss:
        completion, advantages, window = batch.completion, batch.advantages, batch.window
        log_ratio, low, high = drift(completion), 1 - self.clip_low, 1 + self.clip_high
        policy = Term(clipped_surrogate(log_ratio, advantages, low, high), window)
        value = value_term(batch, self.value_coef, mask=completion.mask & batch.done[:, None])
        clipped = is_clipped(log_ratio, advantages, low, high)
        return Loss(policy=policy, value=value).report(policy_report(batch, clipped, window))
