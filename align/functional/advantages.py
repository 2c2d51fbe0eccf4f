"""From rewards to advantages. Everything here is a constant to the gradient; better is larger.

`groups` says which prompt each completion answers, (B,) numbers from 0; groups may be of unequal sizes.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from align.functional.masked import last_kept

NO_SPREAD = 1e-10  # a variance of returns that is nothing but rounding


def leave_one_out(rewards: Float[Tensor, " B"], groups: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
    """The reward less the mean of the others of its group (Kool et al. 2019; RLOO, arXiv:2402.14740).

    Sums to 0 over a group, and is 0 for a completion that has no others.
    """
    size = torch.bincount(groups)[groups]
    return torch.where(size > 1, (rewards - group_means(rewards, groups)) * size / (size - 1).clamp(min=1), 0.0)


def group_normalised(rewards: Float[Tensor, " B"], groups: Int[Tensor, " B"], eps: float = 1e-4) -> Float[Tensor, " B"]:
    """(R - mean) / (std + eps) within each group, std by Bessel (GRPO, arXiv:2402.03300).

    Exactly 0 in a group without spread, where 1 / eps would magnify rounding.
    """
    centred = rewards - group_means(rewards, groups)
    size = torch.bincount(groups)[groups]
    std = (group_means(centred**2, groups) * size / (size - 1).clamp(min=1)).sqrt()
    return torch.where(group_spread(rewards, groups) > 0, centred / (std + eps), 0.0)


def group_means(values: Float[Tensor, " B"], groups: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
    """For each completion, the mean over its group."""
    totals = values.new_zeros(int(groups.max()) + 1).index_add(0, groups, values)
    return (totals / torch.bincount(groups).clamp(min=1))[groups]


def group_spread(values: Float[Tensor, " B"], groups: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
    """For each completion, largest less smallest value of its group: exactly 0 where all are equal."""
    blank = values.new_zeros(int(groups.max()) + 1)
    largest = blank.scatter_reduce(0, groups, values, "amax", include_self=False)
    smallest = blank.scatter_reduce(0, groups, values, "amin", include_self=False)
    return (largest - smallest)[groups]


def gae(
    rewards: Float[Tensor, "B T"],
    values: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    gamma: float,
    lam: float | Float[Tensor, " B"],
    after: Float[Tensor, " B"] | None = None,
) -> Float[Tensor, "B T"]:
    """Generalised advantage estimation (arXiv:1506.02438).

    delta_t = r_t + gamma V_{t+1} - V_t,    A_t = delta_t + gamma lam A_{t+1}

    t counts kept tokens: what stands between them (tool results) is stepped over, with its rewards and values. `after`
    is the value after the last kept token; None: a completion has ended there, 0. Zero where nothing is kept.
    """
    advantages = torch.zeros_like(rewards)
    following = torch.zeros_like(rewards[:, 0])  # A and V of the next kept token
    value = torch.zeros_like(following) if after is None else after
    for t in reversed(range(rewards.shape[1])):
        kept = mask[:, t]
        delta = rewards[:, t] + gamma * value - values[:, t]
        following = torch.where(kept, delta + gamma * lam * following, following)
        value = torch.where(kept, values[:, t], value)
        advantages[:, t] = torch.where(kept, following, 0.0)
    return advantages


def gae_and_returns(
    rewards: Float[Tensor, "B T"], values: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"], gamma: float, lam: float
) -> tuple[Float[Tensor, "B T"], Float[Tensor, "B T"]]:
    """`gae`, and the values that it corrects the critic to: A + V, 0 where nothing is kept."""
    advantages = gae(rewards, values, mask, gamma, lam)
    return advantages, (advantages + values).masked_fill(~mask, 0.0)


def length_lambdas(lengths: Int[Tensor, " B"], alpha: float) -> Float[Tensor, " B"]:
    """1 - 1 / (alpha l), so that the weights lam^k of a completion add up to about alpha l (VAPO, arXiv:2504.05118).

    Held within 0 and 1: 0 up to a length of 1 / alpha.
    """
    return (1 - 1 / (alpha * lengths.clamp(min=1).double())).clamp(0, 1)


def final_rewards(rewards: Float[Tensor, " B"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B T"]:
    """A completion's reward on its last kept token, 0 elsewhere; nowhere where no token is kept."""
    places = torch.arange(mask.shape[1], device=mask.device)
    return torch.where(places == last_kept(mask)[:, None], rewards[:, None], 0.0)


def rewards_to_go(rewards: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B T"]:
    """Per kept token, the sum of its own and all later kept rewards; 0 elsewhere."""
    kept = rewards.masked_fill(~mask, 0.0)
    return kept.flip(-1).cumsum(-1).flip(-1).masked_fill(~mask, 0.0)


def step_advantages(
    rewards: Float[Tensor, " B"],
    estimates: Float[Tensor, "B T"],
    starts: Bool[Tensor, "B T"],
    known: Bool[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
) -> tuple[Float[Tensor, "B T"], Float[Tensor, "B T"]]:
    """What a step is worth: the value after it less that before it, the reward being what comes after the last one
    (VinePPO, arXiv:2410.01679). All kept tokens of a step share it; from a completion's first step on they add up, a
    step each, to its reward less the value of its prompt.

    `estimates` are of the states before the tokens where `starts` is True, and count where `known` is; from where they
    end, a value is the reward, and the steps are worth 0. Second: the values, where `starts` is True.
    """
    step = starts.cumsum(-1)
    values = rewards[:, None].repeat(1, int(step.max()) + 2) if step.numel() else rewards[:, None].repeat(1, 2)
    row, token = known.nonzero(as_tuple=True)
    values[row, step[row, token]] = estimates[row, token]
    here = values.gather(1, step)
    worth = (values.gather(1, step + 1) - here).masked_fill(~mask | (step == 0), 0.0)
    return worth, here.masked_fill(~starts, 0.0)


def whiten(
    values: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    *,
    shift_mean: bool = True,
    unbiased: bool = False,
    eps: float = 1e-8,
) -> Float[Tensor, "B T"]:
    """Kept values with standard deviation 1, and with mean 0 unless their mean is to stay; 0 elsewhere.

    `unbiased` divides the variance by n - 1; eps is added to the variance.
    """
    count, wide = mask.sum(), values.double()  # equal values stay equal to their mean: rounding would be blown up
    mean = wide.masked_fill(~mask, 0.0).sum() / count.clamp(min=1)
    centred = (wide - mean).masked_fill(~mask, 0.0)
    variance = (centred**2).sum() / (count - int(unbiased)).clamp(min=1)
    white = centred * torch.rsqrt(variance + eps)
    return (white if shift_mean else (white + mean).masked_fill(~mask, 0.0)).to(values.dtype)


def explained_variance(values: Float[Tensor, "B T"], returns: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]) -> float:
    """Share of the returns' variance that a critic foresaw, token by token: 1 all of it, 0 no more than a constant.

    Below 0 it foresaw less than a constant would have. NaN where all returns are the same: nothing is to be foreseen.
    """
    variance = returns[mask].var(correction=0).item() if mask.any() else 0.0
    return 1 - (returns - values)[mask].var(correction=0).item() / variance if variance > NO_SPREAD else math.nan
