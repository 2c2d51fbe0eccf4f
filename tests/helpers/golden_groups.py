"""The golden vectors of methods that compare completions, or earlier rewards, instead of asking a critic."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from golden_files import Checker, load
from golden_losses import differentiate, method_of
from rollout_batches import rollouts

from align.functional.advantages import final_rewards, group_normalised, leave_one_out, rewards_to_go
from align.functional.correction import bounded, sampler_weights
from align.functional.kl import k1
from align.functional.masked import masked_mean, masked_sum
from align.methods.base import of_completion
from align.rewards.shape import Ends, Overlong

# ---- RLOO, REINFORCE, LOOP ------------------------------------------------------------------------------------------


def check_leave_one_out(stem: str, name: str, dtype: torch.dtype) -> None:
    case, inputs, check = load(stem, name, dtype)
    method = method_of("rloo", kl_coef=case["hyperparameters"].get("kl_coef", 0.0))
    rewards = inputs["rewards"] if "rewards" in inputs else inputs["scores"]
    batch = method.advantages(rollouts(method, inputs, rewards=rewards))
    if "sequence_kl" in check.left:
        kl = masked_sum(inputs["old_logprobs"] - inputs["ref_logprobs"], inputs["mask"] > 0.5)
        check.equal("sequence_kl", kl)
        check.equal("rewards", rewards - method.kl_coef * kl)  # type: ignore[attr-defined]
    check.equal("advantages", of_completion(batch))
    check.done()


def check_normalised(stem: str, name: str, dtype: torch.dtype) -> None:
    case, inputs, check = load(stem, name, dtype)
    raw = inputs["raw_advantages"]
    one = torch.zeros(len(raw), dtype=torch.long)
    check.equal("advantages", group_normalised(raw, one, case["hyperparameters"]["eps"]))
    check.done()


def check_reward_to_go(stem: str, name: str, dtype: torch.dtype) -> None:
    case, inputs, check = load(stem, name, dtype)
    mask = inputs["mask"] > 0.5
    of_scores = leave_one_out(inputs["scores"], inputs["group_index"].long())
    kl = k1(inputs["old_logprobs"] - inputs["ref_logprobs"])
    rewards = final_rewards(of_scores, mask) - case["hyperparameters"]["kl_coef"] * kl
    check.equal("token_advantages", rewards_to_go(rewards, mask))
    check.done()


def check_moving_average(stem: str, name: str, dtype: torch.dtype) -> None:
    _, inputs, check = load(stem, name, dtype)
    method: Any = method_of("reinforce", kl_coef=0.0)
    baselines, advantages = [], []
    for i, reward in enumerate(inputs["rewards"]):
        one = {**{k: v[i : i + 1] for k, v in inputs.items() if v.ndim}, "group_index": torch.zeros(1)}
        batch = rollouts(method, one, rewards=reward[None])
        baselines.append(method.reward_sum / max(method.num_rewards, 1))
        advantages.append(of_completion(method.advantages(batch))[0])
        method = dataclasses.replace(method, **method.controllers(batch))
    check.equal("baselines", torch.tensor(baselines, dtype=torch.float64))
    check.equal("advantages", torch.stack(advantages))
    check.done()


def check_loop(stem: str, name: str, dtype: torch.dtype) -> None:
    case, inputs, check = load(stem, name, dtype)
    method = method_of("loop", clip_range=case["hyperparameters"]["epsilon"])
    batch = method.advantages(rollouts(method, inputs, rewards=inputs["binary_rewards"]))
    check.equal("advantages", of_completion(batch))
    differentiate(check, batch, method.loss(batch))
    check.done()


def check_loop_filter(stem: str, name: str, dtype: torch.dtype) -> None:
    case, inputs, check = load(stem, name, dtype)
    method = method_of("loop", smallest_advantage=case["hyperparameters"]["abs_adv_threshold"])
    batch = rollouts(method, inputs, advantages=inputs["advantages"])
    check.exactly("kept", method.keep(batch).nonzero().flatten().tolist())
    check.done()


# ---- GRPO and its relatives -----------------------------------------------------------------------------------------


def check_group_advantages(stem: str, name: str, dtype: torch.dtype) -> None:
    _, inputs, check = load(stem, name, dtype)
    method = method_of("grpo")
    for rewards, expected in check.expected.items():
        part = Checker({}, expected, dtype)
        part.tolerance = check.tolerance
        batch = method.advantages(rollouts(method, inputs, rewards=inputs[rewards]))
        part.equal("unbiased_std_eps1e-4", of_completion(batch))
        for eps in ("1e-6", "1e-9"):
            found = group_normalised(inputs[rewards], inputs["group_index"].long(), float(eps))
            part.equal(f"unbiased_std_eps{eps}", found)
        left = {field for field in part.left if not field.startswith("population_std")}  # nothing here uses that one
        assert left <= {"no_std"}, left
        if left:
            dr: Any = method_of("dr_grpo")
            part.equal("no_std", of_completion(dr.advantages(rollouts(dr, inputs, rewards=inputs[rewards]))))


def check_dr_grpo(stem: str, name: str, dtype: torch.dtype) -> None:
    case, inputs, check = load(stem, name, dtype)
    given = case["hyperparameters"]
    method = method_of("dr_grpo", clip_range=given["clip"], constant_length=given["max_length"])
    batch = method.advantages(rollouts(method, inputs))
    check.equal("advantages", of_completion(batch))
    differentiate(check, batch, method.loss(batch))
    check.done()


def check_overlong(stem: str, name: str, dtype: torch.dtype) -> None:
    case, inputs, check = load(stem, name, dtype)
    lengths = inputs["lengths"].long()
    ends = Ends(finished=torch.ones_like(lengths, dtype=torch.bool), lengths=lengths)
    given = case["hyperparameters"]
    piece = Overlong(max_length=given["max_length"], cache=given["cache"])
    check.equal("penalties", piece(torch.zeros(len(lengths), dtype=dtype), ends))
    check.done()


def check_dynamic_sampling(stem: str, name: str, dtype: torch.dtype) -> None:
    _, inputs, check = load(stem, name, dtype)
    method = method_of("dapo")
    kept = method.keep(rollouts(method, inputs, rewards=inputs["binary_rewards"])).view(-1, 4)
    check.exactly("keep", kept.all(1).tolist())
    assert torch.equal(kept.all(1), kept.any(1)), "a group is kept whole or not at all"
    check.equal("num_correct", inputs["binary_rewards"].view(-1, 4).sum(1))
    check.done()


def check_correction(stem: str, name: str, dtype: torch.dtype) -> None:
    case, inputs, check = load(stem, name, dtype)
    given, mask = case["hyperparameters"], inputs["mask"] > 0.5
    old, sampler = inputs["old_logprobs"], inputs["rollout_logprobs"]
    weights = sampler_weights(old, sampler, mask, "token")
    made = {
        "token_truncated": bounded(weights, 0.0, given["C"], "truncate"),
        "token_masked": bounded(weights, 0.0, given["C"], "mask"),
        "token_two_sided": bounded(weights, *given["two_sided"], "mask"),
    }
    check.equal("token_weights", weights)
    check.equal("sequence_weights", sampler_weights(old, sampler, mask, "sequence")[:, 0])
    check.equal("sequence_geometric_mean", sampler_weights(old, sampler, mask, "geometric")[:, 0])
    method = method_of("dapo", clip_low=given["clip_low"], clip_high=given["clip_high"])
    for field, values in made.items():
        check.equal(field, values)
        if f"loss_{field}" in check.left:
            batch = rollouts(method, inputs, advantages=inputs["advantages"][:, None] * values)
            differentiate(check, batch, method.loss(batch), f"loss_{field}", f"grad_logprobs_{field}")
    check.done()


def check_off_policy_mask(stem: str, name: str, dtype: torch.dtype) -> None:
    """Where the loss has no gradient: there is no KL, so what is left out has none at all."""
    case, inputs, check = load(stem, name, dtype)
    mask = inputs["mask"] > 0.5
    gap = inputs["rollout_logprobs"] - inputs["logprobs"]
    check.equal("mean_drift", masked_mean(gap, mask))
    method = method_of("grpo", kl_coef=0.0, off_policy_delta=case["hyperparameters"]["delta"])
    batch = rollouts(method, inputs, advantages=inputs["advantages"])
    logps = batch.completion.logps.detach().clone().requires_grad_()
    batch = dataclasses.replace(batch, completion=dataclasses.replace(batch.completion, logps=logps))
    loss = method.loss(batch)
    loss.terms["loss"].values.sum().backward()
    assert logps.grad is not None
    check.exactly("keep", (~loss.terms["off_policy"].values.bool()).tolist())
    assert not logps.grad[loss.terms["off_policy"].values.bool()].any()
    check.done()
