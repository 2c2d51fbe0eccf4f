"""The policy-gradient golden vectors through the real methods, and through the pieces that they are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import golden_groups as groups
import method_batches as batches
import torch
from golden_files import Checker, load
from golden_losses import METHODS, check_loss, differentiate, method_of
from golden_pairs import PAIR_CHECKS
from rollout_batches import rollouts
from torch import Tensor

from align.functional.advantages import final_rewards, gae, whiten
from align.functional.kl import ESTIMATORS, adapted, k1
from align.functional.masked import masked_sum
from align.functional.surrogate import clipped_surrogate, dual_clipped
from align.methods.base import Loss
from align.rewards.shape import Ends, MissingEos

Check = Callable[[str, str, torch.dtype], None]

# ---- PPO ------------------------------------------------------------------------------------------------------------


def check_kl(stem: str, name: str, dtype: torch.dtype) -> None:
    _, inputs, check = load(stem, name, dtype)
    mask = inputs["mask"] > 0.5
    for estimator, expected in check.expected.items():
        leaf = inputs["logprobs"].clone().requires_grad_()
        found = ESTIMATORS[estimator](leaf - inputs["ref_logprobs"])
        part = Checker({}, expected, dtype)
        part.tolerance = check.tolerance
        part.equal("per_token", found.masked_fill(~mask, 0.0))
        part.equal("per_sequence_sum", masked_sum(found, mask))
        mean = found.masked_fill(~mask, 0.0).sum() / mask.sum()
        mean.backward()
        for field in tuple(part.left):
            (part.gradient(field, leaf, mask) if field.startswith("grad") else part.equal(field, mean))
        part.done()
    check.left.clear()


def check_token_rewards(stem: str, name: str, dtype: torch.dtype) -> None:
    case, inputs, check = load(stem, name, dtype)
    mask, beta = inputs["mask"] > 0.5, case["hyperparameters"]["kl_coef"]
    kl = ESTIMATORS[case["hyperparameters"]["kl_estimator"]](inputs["old_logprobs"] - inputs["ref_logprobs"])
    check.equal("rewards", (final_rewards(inputs["scores"], mask) - beta * kl).masked_fill(~mask, 0.0))
    if "kl_sum" in check.left:
        check.equal("kl_sum", masked_sum(kl, mask))
        check.equal("non_score_reward_sum", -beta * masked_sum(kl, mask))
    check.done()


def check_missing_eos(stem: str, name: str, dtype: torch.dtype) -> None:
    case, inputs, check = load(stem, name, dtype)
    ends = Ends(finished=inputs["has_eos"] > 0.5, lengths=inputs["lengths"].long())
    given = case["hyperparameters"]
    check.equal("scores_replace", MissingEos(replace=given["replace_value"])(inputs["scores"], ends))
    check.equal("scores_subtract", MissingEos(subtract=given["subtract_value"])(inputs["scores"], ends))
    check.done()


def check_gae(stem: str, name: str, dtype: torch.dtype) -> None:
    case, inputs, check = load(stem, name, dtype)
    mask, given = inputs["mask"] > 0.5, case["hyperparameters"]
    found = gae(inputs["rewards"], inputs["old_values"], mask, given["gamma"], given["gae_lambda"])
    check.equal("advantages", found)
    check.equal("returns", (found + inputs["old_values"]).masked_fill(~mask, 0.0))
    check.done()


def check_whitening(stem: str, name: str, dtype: torch.dtype) -> None:
    _, inputs, check = load(stem, name, dtype)
    for field in check.expected:
        flags = dict(part.split("=") for part in field.split(","))
        made = {k: v == "True" for k, v in flags.items()}
        check.equal(field, whiten(inputs["advantages"], inputs["mask"] > 0.5, **made))
    check.done()


def check_post_eos(stem: str, name: str, dtype: torch.dtype) -> None:
    """The other place for the reward, from the same pieces: one slot more, for the state after the last token."""
    case, inputs, check = load(stem, name, dtype)
    mask, given = inputs["mask"] > 0.5, case["hyperparameters"]
    wide = torch.arange(mask.shape[1]) <= inputs["lengths"][:, None]
    kl = k1(inputs["old_logprobs"] - inputs["ref_logprobs"]).masked_fill(~mask, 0.0)
    rewards = final_rewards(inputs["scores"], wide) - given["kl_coef"] * kl
    values = inputs["old_values_post_eos"]
    raw = gae(rewards, values, wide, given["gamma"], given["gae_lambda"])
    check.exactly("value_mask", wide.to(torch.float64).tolist())
    check.equal("rewards", rewards)
    check.equal("raw_advantages", raw)
    check.equal("returns", (raw + values).masked_fill(~wide, 0.0))
    check.equal("whitened_advantages", whiten(raw, mask))
    check.done()


def check_dual_clip(stem: str, name: str, dtype: torch.dtype) -> None:
    case, inputs, check = load(stem, name, dtype)
    mask = inputs["mask"] > 0.5
    advantages = (
        inputs["advantages"][:, None].expand(mask.shape) if inputs["advantages"].ndim == 1 else inputs["advantages"]
    )
    found: dict[str, Tensor] = {}
    for suffix in ("", "_without_dual_clip"):
        leaf = inputs["logprobs"].clone().requires_grad_()
        losses = clipped_surrogate(leaf - inputs["old_logprobs"], advantages, 0.8, 1.2)
        losses = losses if suffix else dual_clipped(losses, advantages, case["hyperparameters"]["dual_clip"])
        loss = losses.masked_fill(~mask, 0.0).sum() / mask.sum()
        loss.backward()
        check.equal(f"loss{suffix}", loss)
        check.gradient(f"grad_logprobs{suffix}", leaf, mask)
        found[suffix] = losses.detach().masked_fill(~mask, 0.0)
    differs = (found[""] != found["_without_dual_clip"]).nonzero().tolist()
    check.exactly("active_position", differs[0] if len(differs) == 1 else differs)
    check.done()


def check_value_loss(stem: str, name: str, dtype: torch.dtype) -> None:
    case, inputs, check = load(stem, name, dtype)
    method = method_of("ppo", value_clip=case["hyperparameters"]["value_clip"] or 0.0, value_coef=1.0)
    batch = rollouts(method, inputs, returns=inputs["returns"])
    value = method.loss(batch).terms["value"]
    differentiate_value(check, batch, Loss(value))
    check.done()


def differentiate_value(check: Checker, batch: Any, loss: Loss) -> None:
    total = batches.objective(loss)
    total.backward()
    check.equal("loss", total)
    check.gradient("grad_values", batch.completion.values, batch.completion.mask)


def check_total_update(stem: str, name: str, dtype: torch.dtype) -> None:
    case, inputs, check = load(stem, name, dtype)
    given = case["hyperparameters"]
    method = method_of(
        "ppo", kl_coef=given["kl_coef"], gamma=given["gamma"], lam=given["gae_lambda"], clip_range=given["clip"],
        value_clip=given["value_clip"], value_coef=given["vf_coef"],
    )  # fmt: skip
    batch = method.advantages(rollouts(method, inputs))
    loss = method.loss(batch)
    differentiate(check, batch, loss)
    check.equal("policy_loss", batches.mean_of(loss, "policy"))
    check.equal("scaled_value_loss", given["vf_coef"] * batches.mean_of(loss, "value"))
    check.gradient("grad_values", batch.completion.values, batch.completion.mask)
    check.done()


def check_on_policy(stem: str, name: str, dtype: torch.dtype) -> None:
    _, inputs, check = load(stem, name, dtype)
    inputs["logprobs"] = inputs["old_logprobs"]
    method = method_of("dapo", clip_low=0.2, clip_high=0.2)
    batch = rollouts(method, inputs, advantages=inputs["advantages"])
    differentiate(check, batch, method.loss(batch))
    check.done()


def check_controller(stem: str, name: str, dtype: torch.dtype) -> None:
    case, inputs, check = load(stem, name, torch.float64)
    given, beta, found = case["hyperparameters"], case["hyperparameters"]["initial"], []
    for kl in inputs["observed_kl"].tolist():
        beta = adapted(beta, kl, given["target"], given["n_steps"] / given["horizon"])
        found.append(beta)
    check.equal("beta", torch.tensor(found, dtype=torch.float64))
    check.done()


ROLLOUT_CHECKS: dict[tuple[str, str], Check] = {
    ("ppo", "kl_estimators"): check_kl,
    ("ppo", "token_rewards_score_on_last_token"): check_token_rewards,
    ("ppo", "token_rewards_k3"): check_token_rewards,
    ("ppo", "missing_eos"): check_missing_eos,
    ("ppo", "whitening"): check_whitening,
    ("ppo", "post_eos_layout"): check_post_eos,
    ("ppo", "policy_loss_dual_clip"): check_dual_clip,
    ("ppo", "total_update"): check_total_update,
    ("ppo", "on_policy_reduction"): check_on_policy,
    ("ppo", "adaptive_kl_controller"): check_controller,
    **{("ppo", f"gae_gamma{n}"): check_gae for n in ("1_lambda0.95", "0.99_lambda0.9", "1_lambda1", "1_lambda0")},
    **{("ppo", f"value_loss_clip_{clip}"): check_value_loss for clip in ("0.2", "None")},
    **{("ppo", name): check_loss for name in METHODS if name.startswith("policy_loss")},
    **{(stem, name): check_loss for stem in ("rloo", "grpo") for name in METHODS if not name.startswith("policy_loss")},
    ("rloo", "advantages_kl_in_reward"): groups.check_leave_one_out,
    ("rloo", "group_mean_identity"): groups.check_leave_one_out,
    ("rloo", "advantages_batch_normalised"): groups.check_normalised,
    ("rloo", "kl_after_baseline_reward_to_go"): groups.check_reward_to_go,
    ("rloo", "moving_average_baseline"): groups.check_moving_average,
    ("rloo", "loop_per_token"): groups.check_loop,
    ("rloo", "loop_filter"): groups.check_loop_filter,
    ("grpo", "group_advantages"): groups.check_group_advantages,
    ("grpo", "dr_grpo_loss"): groups.check_dr_grpo,
    ("grpo", "soft_overlong_punishment"): groups.check_overlong,
    ("grpo", "dynamic_sampling"): groups.check_dynamic_sampling,
    ("grpo", "rollout_correction"): groups.check_correction,
    ("grpo", "off_policy_sequence_mask"): groups.check_off_policy_mask,
    **PAIR_CHECKS,
}
