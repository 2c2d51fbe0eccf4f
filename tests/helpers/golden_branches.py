"""The golden vectors of T-PPO, VC-PPO and VinePPO, and of what D3S and Scaf-GRPO do to GRPO's experience."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import method_batches as batches
import torch
from golden_files import FILES, Checker, load
from golden_losses import differentiate, method_of
from golden_steps import STEP_CHECKS
from rollout_batches import rollouts
from torch import Tensor

from align.functional.advantages import (
    explained_variance,
    final_rewards,
    gae,
    length_lambdas,
    step_advantages,
    whiten,
)
from align.functional.selection import largest, most_varied
from align.methods.base import Loss

Check = Callable[[str, str, torch.dtype], None]

# ---- T-PPO ----------------------------------------------------------------------------------------------------------


def windows(name: str, dtype: torch.dtype, **knobs: float) -> tuple[Any, dict[str, Tensor], Checker, Any]:
    """Method, inputs, checker, and the batch; a completion that goes on has no reward yet."""
    case, inputs, check = load("t-ppo", name, dtype)
    given = case["hyperparameters"]
    method = method_of("t_ppo", gamma=given.get("gamma", 1.0), lam=given.get("gae_lambda", 0.95), value_coef=1.0)
    starts = inputs["window_start"] if "window_start" in inputs else torch.zeros(len(inputs["mask"]))
    done = inputs["finished"] > 0.5 if "finished" in inputs else torch.ones(len(inputs["mask"]), dtype=torch.bool)
    rewards = torch.where(done, inputs["binary_rewards"], 0.0)
    return method, inputs, check, rollouts(method, inputs, starts=starts.long(), done=done, rewards=rewards)


def check_egae(stem: str, name: str, dtype: torch.dtype) -> None:
    method, inputs, check, batch = windows(name, dtype)
    filled, window = method.advantages(batch), inputs["window_mask"] > 0.5
    check.equal("advantages", filled.advantages)
    assert torch.equal(filled.window, window)
    assert torch.equal(method.keep(filled), window | batch.done[:, None])
    check.done()


def check_window_loss(stem: str, name: str, dtype: torch.dtype) -> None:
    method, inputs, check, _ = windows(name, dtype)
    batch = rollouts(method, inputs, window=inputs["window_mask"] > 0.5, advantages=inputs["advantages"])
    differentiate(check, batch, Loss(method.loss(batch).terms["policy"]))
    check.done()


def check_value_of_done(stem: str, name: str, dtype: torch.dtype) -> None:
    method, _, check, batch = windows(name, dtype)
    filled = method.advantages(batch)
    term = method.loss(filled).terms["value"]
    assert term.mask is not None
    check.exactly("value_mask", term.mask.double().tolist())
    check.equal("returns", filled.returns.masked_fill(~term.mask, 0.0))
    total = batches.objective(Loss(term))
    total.backward()
    check.equal("loss", total)
    check.gradient("grad_values", filled.completion.values, term.mask)
    check.done()


# ---- VC-PPO ---------------------------------------------------------------------------------------------------------


def check_decoupled(stem: str, name: str, dtype: torch.dtype) -> None:
    case, inputs, check = load(stem, name, dtype)
    given = case["hyperparameters"]
    method = method_of("vc_ppo", lam=given["lambda_actor"], lam_critic=given["lambda_critic"], whiten=False)
    batch = method.advantages(rollouts(method, inputs, rewards=inputs["final_rewards"]))
    check.equal("rewards", final_rewards(batch.rewards, batch.completion.mask))
    check.equal("advantages", batch.advantages)
    check.equal("returns", batch.returns)
    check.done()


def check_adaptive(stem: str, name: str, dtype: torch.dtype) -> None:
    case, inputs, check = load(stem, name, dtype)
    alpha = case["hyperparameters"]["alpha"]
    check.equal("lambdas", length_lambdas(inputs["lengths"].long(), alpha).to(torch.float64))
    if "advantages" in check.left:
        method = method_of("vc_ppo", length_alpha=alpha, whiten=False)
        batch = method.advantages(rollouts(method, inputs, rewards=inputs["final_rewards"]))
        check.equal("advantages", batch.advantages)
    check.done()


def check_decay(stem: str, name: str, dtype: torch.dtype) -> None:
    """Property 5: without values, the advantage of a token is the final reward times this weight."""
    case, _, check = load(stem, name, dtype)
    given = case["hyperparameters"]
    zeros, mask = torch.zeros(1, given["length"], dtype=dtype), torch.ones(1, given["length"], dtype=torch.bool)
    found = gae(final_rewards(torch.ones(1, dtype=dtype), mask), zeros, mask, 1.0, given["gae_lambda"])[0]
    part = Checker({}, check.expected["weights"], dtype)
    for place in check.expected["weights"]:
        part.equal(place, found[int(place)])
    part.done()


def check_pretraining(stem: str, name: str, dtype: torch.dtype) -> None:
    _, inputs, check = load(stem, name, dtype)
    method = method_of("vc_ppo", value_coef=1.0)
    batch = rollouts(method, inputs, returns=inputs["returns"])
    total = batches.objective(Loss(method.loss(batch).terms["value"]))
    total.backward()
    check.equal("loss", total)
    check.gradient("grad_values", batch.completion.values, batch.completion.mask)
    found = explained_variance(batch.completion.values.detach(), batch.returns, batch.completion.mask)
    check.equal("explained_variance", found)
    check.done()


def check_positive(stem: str, name: str, dtype: torch.dtype) -> None:
    case, inputs, check = load(stem, name, dtype)
    given = case["hyperparameters"]
    method = method_of(
        "vc_ppo", clip_low=given["clip_low"], clip_high=given["clip_high"], nll_coef=given["mu"], value_coef=0.0
    )
    batch = rollouts(method, inputs, advantages=inputs["advantages"], rewards=inputs["binary_rewards"])
    differentiate(check, batch, method.loss(batch))
    check.done()


# ---- VinePPO --------------------------------------------------------------------------------------------------------


def check_steps(stem: str, name: str, dtype: torch.dtype) -> None:
    """Every state is one of its own; its restarts are rows without tokens."""
    case = next(c for c in FILES[stem]["cases"] if c["name"] == name)
    raw = case["inputs"]
    inputs = {k: torch.tensor(v, dtype=dtype) for k, v in FILES[stem]["inputs"].items() if isinstance(v, list)}
    check = Checker(FILES[stem], case["expected"], dtype)
    states, returns, origins = torch.zeros(inputs["mask"].shape, dtype=torch.long), list[float](), list[int]()
    for row, (starts, of_row) in enumerate(zip(raw["step_token_starts"], raw["auxiliary_returns"], strict=True)):
        for start, rewards in zip(starts, of_row, strict=True):
            states[row, start] = int(states.max()) + 1
            returns += rewards
            origins += [int(states[row, start])] * len(rewards)
    own, more = len(states), len(returns)
    wide = {k: torch.cat([v, v.new_zeros(more, *v.shape[1:])]) for k, v in inputs.items()}
    batch = rollouts(
        method_of("vineppo"), wide, rewards=torch.cat([inputs["binary_rewards"], torch.tensor(returns, dtype=dtype)]),
        states=torch.cat([states, states.new_zeros(more, states.shape[1])]),
        origins=torch.tensor([0] * own + origins), auxiliary=torch.arange(own + more) >= own,
    )  # fmt: skip
    filled = method_of("vineppo").advantages(batch)
    rows = zip(filled.estimates, states > 0, strict=False)
    compare(check, "values", [[*estimates[here].tolist(), 0.0] for estimates, here in rows])
    last = [
        [0.0] * (len(s) - 1) + [r]
        for s, r in zip(raw["step_token_starts"], inputs["binary_rewards"].tolist(), strict=True)
    ]
    check.exactly("step_rewards", last)
    here = batch.states > 0
    worth, _ = step_advantages(batch.rewards, filled.estimates, here, here, batch.completion.mask)
    compare(check, "step_advantages", [row[s].tolist() for row, s in zip(worth, states > 0, strict=False)])
    check.equal("token_advantages", worth[:own])
    check.equal("whitened_unbiased", filled.advantages[:own])
    check.done()


def compare(check: Checker, field: str, found: list[list[float]]) -> None:
    """Rows of unequal lengths."""
    part = Checker({}, {str(i): row for i, row in enumerate(check.expected[field])}, check.dtype)
    for i, row in enumerate(found):
        part.equal(str(i), torch.tensor(row, dtype=torch.float64))
    part.done()
    check.left.discard(field)


def check_tail(stem: str, name: str, dtype: torch.dtype) -> None:
    case = next(c for c in FILES[stem]["cases"] if c["name"] == name)
    check = Checker(FILES[stem], case["expected"], dtype)
    gaps, rewards = case["inputs"]["values_with_gaps"][:-1], case["inputs"]["step_rewards"]
    known = torch.tensor([[v is not None for v in gaps]])
    estimates = torch.tensor([[v or 0.0 for v in gaps]], dtype=dtype)
    every = torch.ones_like(known)
    worth, values = step_advantages(torch.tensor(rewards[-1:], dtype=dtype), estimates, every, known, every)
    check.equal("values", torch.cat([values[0], values.new_zeros(1)]))
    check.equal("step_advantages", worth[0])
    check.done()


def check_vine_loss(stem: str, name: str, dtype: torch.dtype) -> None:
    case, inputs, check = load(stem, name, dtype)
    given = case["hyperparameters"]
    method = method_of("vineppo", clip_range=given["clip"], kl_coef=given["kl_coef"])
    white = whiten(inputs["token_advantages"], inputs["mask"] > 0.5, unbiased=given["whiten_unbiased"])
    batch = rollouts(method, inputs, advantages=white)
    loss = method.loss(batch)
    differentiate(check, batch, loss)
    check.equal("policy_loss", batches.mean_of(loss, "policy"))
    check.done()


# ---- D3S, Scaf-GRPO -------------------------------------------------------------------------------------------------


def check_d3s(stem: str, name: str, dtype: torch.dtype) -> None:
    case, inputs, check = load(stem, name, dtype)
    given, mask, advantages = case["hyperparameters"], inputs["mask"] > 0.5, inputs["advantages"]
    chosen = most_varied(advantages, given["keep"])
    check.exactly("selected", chosen.nonzero()[:, 0].tolist())
    check.equal("subset_variance", advantages[chosen].var(correction=0))
    check.equal("full_variance", advantages.var(correction=0))
    shares = {"first_completions": given["keep"] / len(mask), "first_tokens": given["token_fraction"]}
    method = method_of("d3s", clip_range=given["clip"], **shares)
    batch = rollouts(method, inputs, advantages=advantages)
    kept = method.keep(batch)
    assert torch.equal(kept, largest(advantages.abs()[:, None] * inputs["entropies"], mask & chosen[:, None], 0.2))
    check.exactly("token_mask", kept.double().tolist())
    narrowed = rollouts(method, inputs | {"mask": kept.to(dtype)}, advantages=batch.advantages)
    differentiate(check, narrowed, method.loss(narrowed))
    check.done()


def check_schedule(stem: str, name: str, dtype: torch.dtype) -> None:
    case, _, check = load(stem, name, dtype)
    (first, last), (low, high) = case["hyperparameters"]["n"], case["hyperparameters"]["k"]
    knobs = {"first_completions": first / 12, "last_completions": last / 12, "first_tokens": low, "last_tokens": high}
    for entry in check.expected["table"]:
        completions, tokens = method_of("d3s", **knobs, horizon=100, num_seen=100 * entry["progress"]).shares()
        part = Checker({}, {"n": entry["n"], "k": entry["k"]}, dtype)
        part.equal("n", 12 * completions)
        part.equal("k", tokens)
        part.done()


def check_repair(stem: str, name: str, dtype: torch.dtype) -> None:
    """The group as it was, and with a ninth completion that a hint has helped; ours adds 1e-4 to the deviation."""
    _, inputs, check = load(stem, name, dtype)
    shared = {k: v for k, v in inputs.items() if v.ndim == 2 and len(v) == 12}
    nine = {k: v[:9] for k, v in shared.items()} | {"group_index": torch.zeros(9), "scores": torch.zeros(9)}
    method = method_of("scaf_grpo", num_exempt=0)
    hints = torch.arange(9) // 8
    for when in ("before", "after"):
        rewards = inputs[f"rewards_{when}"]
        batch = rollouts(method, nine, rewards=torch.cat([rewards.new_zeros(8), rewards[:1]]), hints=hints)
        filled, kept = method.advantages(batch), method.keep(batch)
        found = torch.cat([filled.advantages[-1:, 0], filled.advantages[1:8, 0]])
        std = rewards.std()
        check.equal(f"advantages_{when}", found * (std + 1e-4) / (std + 1e-6))
        assert kept.tolist() == ([False] + [True] * 8 if rewards.any() else [True] * 8 + [False])
    check.done()


BRANCH_CHECKS: dict[tuple[str, str], Check] = {
    **{("t-ppo", f"egae_gamma{setting}"): check_egae for setting in ("1_lambda0.95", "0.99_lambda0.9")},
    ("t-ppo", "policy_loss"): check_window_loss,
    ("t-ppo", "value_loss"): check_value_of_done,
    ("vc-ppo", "decoupled_gae"): check_decoupled,
    ("vc-ppo", "length_adaptive_gae"): check_adaptive,
    ("vc-ppo", "length_adaptive_lambda"): check_adaptive,
    ("vc-ppo", "reward_decay"): check_decay,
    ("vc-ppo", "value_pretraining"): check_pretraining,
    ("vc-ppo", "token_loss_clip_higher_positive_nll"): check_positive,
    ("vineppo", "mc_values_and_advantages"): check_steps,
    ("vineppo", "unestimated_tail"): check_tail,
    ("vineppo", "loss"): check_vine_loss,
    ("grpo", "d3s"): check_d3s,
    ("grpo", "d3s_schedule"): check_schedule,
    ("grpo", "scaf_group_repair"): check_repair,
    **STEP_CHECKS,
}
