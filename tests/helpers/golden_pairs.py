"""The golden vectors of SPO and APA, and of REBEL and P3O, which compare completions in pairs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import method_batches as batches
import torch
from golden_files import Checker, load
from golden_losses import differentiate, method_of
from rollout_batches import rollouts
from torch import Tensor

from align.functional.advantages import final_rewards, gae, whiten
from align.functional.masked import masked_sum
from align.functional.pairing import differences, partners
from align.functional.surrogate import quadratic_surrogate
from align.methods.base import Loss, OnlineMethod, Term, of_completion

Check = Callable[[str, str, torch.dtype], None]

# ---- SPO ------------------------------------------------------------------------------------------------------------


def check_spo(stem: str, name: str, dtype: torch.dtype) -> None:
    case, inputs, check = load(stem, name, dtype)
    whole = "sequence_advantages" in inputs
    advantages = inputs["sequence_advantages" if whole else "advantages"]
    method = method_of(
        "spo", epsilon=case["hyperparameters"]["epsilon"], value_coef=0.0, ratio_of="completion" if whole else "token"
    )
    batch = rollouts(method, inputs, advantages=advantages)
    differentiate(check, batch, method.loss(batch))
    check.done()


def check_pointwise(stem: str, name: str, dtype: torch.dtype) -> None:
    case, _, check = load(stem, name, dtype)
    given, table = case["hyperparameters"], check.expected["table"]
    columns = {key: [[point[key] for point in row] for row in table] for key in table[0][0]}
    part = Checker({}, columns, dtype)
    ratio = torch.tensor(columns["ratio"], dtype=dtype, requires_grad=True)
    advantages = torch.tensor(given["advantages"], dtype=dtype)[:, None].expand(ratio.shape)
    objective = -quadratic_surrogate(ratio.log(), advantages, given["epsilon"])
    objective.sum().backward()
    assert ratio.grad is not None
    part.equal("ratio", ratio)
    part.equal("objective", objective)
    part.equal("d_objective_d_ratio", ratio.grad)
    part.done()


# ---- APA ------------------------------------------------------------------------------------------------------------


def check_apa_advantages(stem: str, name: str, dtype: torch.dtype) -> None:
    case, inputs, check = load(stem, name, dtype)
    given, mask = case["hyperparameters"], inputs["mask"] > 0.5
    method = method_of("apa", gamma=given["gamma"], lam=given["gae_lambda"])
    batch = method.advantages(rollouts(method, inputs))
    check.equal("whitened_masked", batch.advantages)
    check.equal("returns", batch.returns)
    rewards = final_rewards(inputs["scores"], mask)
    raw = gae(rewards, inputs["old_values"], mask, given["gamma"], given["gae_lambda"])
    check.equal("advantages", raw)
    padded = whiten(raw, torch.ones_like(mask), unbiased=True)  # the padding counts for mean and spread
    check.equal("whitened_padded_tensor", padded.masked_fill(~mask, 0.0))
    check.done()


def check_apa(stem: str, name: str, dtype: torch.dtype) -> None:
    case, inputs, check = load(stem, name, dtype)
    given = case["hyperparameters"]
    knobs = {"objective": "weighted", "kappa": given["coef"]} if "coef" in given else {"apa_lambda": given["lam"]}
    method = method_of("apa", value_coef=0.0, **knobs)
    if name == "minimum":
        inputs["logprobs"] = inputs["ref_logprobs"] + inputs["advantages"] / given["lam"]
    batch = rollouts(method, inputs, advantages=inputs["advantages"])
    differentiate(check, batch, method.loss(batch))
    check.done()


def check_apa_value(stem: str, name: str, dtype: torch.dtype) -> None:
    case, inputs, check = load(stem, name, dtype)
    method = method_of("apa", value_coef=case["hyperparameters"]["vf_coef"])
    batch = rollouts(method, inputs, returns=inputs["returns"])
    total = batches.objective(Loss(method.loss(batch).terms["value"]))
    total.backward()
    check.equal("loss", total)
    check.gradient("grad_values", batch.completion.values, batch.completion.mask)
    check.done()


# ---- REBEL, P3O -----------------------------------------------------------------------------------------------------


def paired_rollouts(method: OnlineMethod[Any], inputs: dict[str, Tensor], **given: Tensor) -> Any:
    """The batch whose pairs are those of the case, and no others."""
    pairs = inputs["pairs"].long()
    groups = torch.arange(len(inputs["mask"]))
    for first, second in pairs.tolist():
        groups[second] = groups[first]
    assert torch.equal(partners(groups).triu().nonzero(), pairs)
    return rollouts(method, inputs, groups=groups, **given)


def check_rebel_rewards(stem: str, name: str, dtype: torch.dtype) -> None:
    case, inputs, check = load(stem, name, dtype)
    method = method_of("rebel", kl_coef=case["hyperparameters"]["kl_coef"])
    check.equal("rewards", of_completion(method.advantages(rollouts(method, inputs))))
    check.done()


def check_rebel(stem: str, name: str, dtype: torch.dtype) -> None:
    """The form of the paper is ours divided by eta^2."""
    case, inputs, check = load(stem, name, dtype)
    eta = case["hyperparameters"]["eta"]
    method = method_of("rebel", eta=eta)
    if name == "on_policy_gradient":
        inputs["logprobs"] = inputs["old_logprobs"]
    batch = paired_rollouts(method, inputs, advantages=inputs["rewards"])
    losses = method.loss(batch).terms["loss"].values
    differentiate(check, batch, Loss(Term(losses / eta**2 if "paper_form" in name else losses)))
    check.done()


def p3o_of(case: dict[str, Any], clip: str) -> OnlineMethod[Any]:
    given = case["hyperparameters"]
    return method_of(
        "p3o", kl_coef=given["kl_coef"], clip_range=given["clip"], max_weight=given["ratio_clip"], clip=clip
    )


def check_p3o(stem: str, name: str, dtype: torch.dtype) -> None:
    case, inputs, check = load(stem, name, dtype)
    method = p3o_of(case, "separate" if name.startswith("v1") else "token" if "tokenwise" in name else "joint")
    batch = paired_rollouts(method, inputs)
    differentiate(check, batch, method.loss(batch))
    check_gains(check, case, inputs)
    check.done()


def check_gains(check: Checker, case: dict[str, Any], inputs: dict[str, Tensor]) -> None:
    """The difference of rewards that a pair's gradient is weighed with; no method reports it."""
    if "q" not in check.left:
        return
    apart = masked_sum(inputs["logprobs"] - inputs["ref_logprobs"], inputs["mask"] > 0.5)
    charged = inputs["scores"] - case["hyperparameters"]["kl_coef"] * apart
    every = differences(charged, torch.ones(len(apart), len(apart), dtype=torch.bool))
    check.equal("q", every[tuple(inputs["pairs"].long().T)])


def check_p3o_on_policy(stem: str, name: str, dtype: torch.dtype) -> None:
    case, inputs, check = load(stem, name, dtype)
    inputs["logprobs"] = inputs["old_logprobs"]
    for clip in ("joint", "separate"):
        method = p3o_of(case, clip)
        batch = paired_rollouts(method, inputs)
        batches.objective(method.loss(batch)).backward()
        check.gradient("grad_logprobs", batch.completion.logps, batch.completion.mask)
    check_gains(check, case, inputs)
    check.done()


def check_p3o_shift(stem: str, name: str, dtype: torch.dtype) -> None:
    case, inputs, check = load(stem, name, dtype)
    method = p3o_of(case, "joint")
    for scores in ("scores", "scores_shifted"):
        batch = paired_rollouts(method, inputs, rewards=inputs[scores])
        check.equal("loss_v2", batches.objective(method.loss(batch)))
    check.done()


def check_p3o_clamp(stem: str, name: str, dtype: torch.dtype) -> None:
    case, inputs, check = load(stem, name, dtype)
    for clip, version in (("separate", "v1"), ("joint", "v2")):
        method = p3o_of(case, clip)
        batch = paired_rollouts(method, inputs)
        differentiate(check, batch, method.loss(batch), f"loss_{version}", f"grad_logprobs_{version}")
    check.done()


PAIR_CHECKS: dict[tuple[str, str], Check] = {
    **{("spo", name): check_spo for name in ("loss_eps0.2", "loss_eps0.5", "sequence_ratio_variant")},
    ("spo", "pointwise"): check_pointwise,
    ("apa", "advantages"): check_apa_advantages,
    **{("apa", f"loss_{name}"): check_apa for name in ("masked", "padded", "masked_lambda1")},
    **{("apa", name): check_apa for name in ("awr_baseline", "minimum")},
    ("apa", "value_loss"): check_apa_value,
    ("rebel", "rewards"): check_rebel_rewards,
    **{("rebel", f"loss_{form}_form_eta{eta}"): check_rebel for form in ("code", "paper") for eta in ("1", "0.1")},
    ("rebel", "on_policy_gradient"): check_rebel,
    **{
        ("p3o", name): check_p3o
        for name in ("v1_separate_clipping", "v2_joint_clipping", "v2_all_pairs", "v2_tokenwise_clipping")
    },
    ("p3o", "on_policy_gradient"): check_p3o_on_policy,
    ("p3o", "shift_invariance"): check_p3o_shift,
    ("p3o", "tight_ratio_clamp"): check_p3o_clamp,
}
