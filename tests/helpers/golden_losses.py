"""The policy-gradient golden losses, through the methods that compute them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import method_batches as batches
import torch
from golden_files import Checker, load
from rollout_batches import rollouts

from align.functional.masked import masked_mean, masked_sum
from align.methods.base import Loss, OnlineMethod, find_method

Check = Callable[[str, str, torch.dtype], None]
METHODS: dict[str, tuple[str, dict[str, Any]]] = {  # case -> who computes it, with which knobs
    "policy_loss_token_mean": ("dapo", {"clip_low": 0.2, "clip_high": 0.2}),
    "policy_loss_seq_mean_token_mean": ("grpo", {"kl_coef": 0.0, "clip_range": 0.2}),
    "policy_loss_seq_mean_token_sum": ("dr_grpo", {"clip_range": 0.2, "constant_length": 1}),
    "reinforce_sequence_loss": ("reinforce", {}),
    "sequence_ratio_clipped_loss": ("rloo", {"clip_range": 0.2}),
    "token_ratio_clipped_loss": ("dapo", {"clip_low": 0.2, "clip_high": 0.2}),
    "loop_per_trajectory": ("loop", {"clip_range": 0.1, "ratio_of": "completion"}),
    "grpo_loss_with_kl": ("grpo", {"clip_range": 0.2, "kl_coef": 0.04}),
    "grpo_loss": ("grpo", {"clip_range": 0.2, "kl_coef": 0.0}),
    "dapo_loss": ("dapo", {"clip_low": 0.2, "clip_high": 0.28}),
    "gspo_loss": ("gspo", {"clip_low": 0.03, "clip_high": 0.04}),
    "cispo_upper_only": ("cispo", {"ratio_upper_bound": 1.28}),
    "cispo_two_sided": ("cispo", {"ratio_lower_bound": 0.8, "ratio_upper_bound": 1.28}),
}
REPORTED = {"clip_fraction": "clip_fraction", "approx_kl_k3": "approx_kl", "mean_ratio": "ratio"}


def method_of(name: str, **knobs: Any) -> OnlineMethod[Any]:
    found = find_method(name)(**knobs)
    assert isinstance(found, OnlineMethod)
    return found


def differentiate(check: Checker, batch: Any, loss: Loss, value: str = "loss", gradient: str = "grad_logprobs") -> None:
    total = batches.objective(loss)
    total.backward()
    check.equal(value, total)
    check.gradient(gradient, batch.completion.logps, batch.completion.mask)


def check_loss(stem: str, name: str, dtype: torch.dtype) -> None:
    _, inputs, check = load(stem, name, dtype)
    spelt, knobs = METHODS[name]
    method = method_of(spelt, **knobs)
    batch = rollouts(method, inputs, advantages=inputs["advantages"])
    loss = method.loss(batch)
    differentiate(check, batch, loss)
    completion = batch.completion
    drift = (completion.logps - completion.old_logps).detach()
    for field, term in REPORTED.items():
        if field in check.left:
            check.equal(field, batches.mean_of(loss, term))
    if "approx_kl_k2" in check.left:  # no method reports these two
        every = completion.mask.sum()
        check.equal("approx_kl_k1_old_new", masked_sum(-drift, completion.mask).sum() / every)
        check.equal("approx_kl_k2", masked_sum(drift**2 / 2, completion.mask).sum() / every)
    if "sequence_ratio" in check.left:
        check.equal("sequence_ratio", masked_mean(drift, completion.mask).exp())
    check.done()
