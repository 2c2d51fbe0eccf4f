"""The shared inputs of the policy-gradient golden files as batches of the real methods."""

from __future__ import annotations

import dataclasses
from typing import Any, get_type_hints

import method_batches as batches
import torch
from torch import Tensor

from align.methods.base import OnlineMethod
from align.needs import blank
from align.scoring.role_table import named_by

COLUMNS = {  # ours -> theirs
    "logps": "logprobs",
    "old_logps": "old_logprobs",
    "sampler_logps": "rollout_logprobs",
    "ref_logps": "ref_logprobs",
    "target_logps": "ref_logprobs",  # unless a test gives it another
    "entropies": "entropies",
    "values": "values",
    "old_values": "old_values",
    "old_entropies": "entropies",
}
LIVE = ("logps", "values")


def rollouts(method: OnlineMethod[Any], inputs: dict[str, Tensor], **given: Tensor) -> Any:
    """The batch of this method; `given` are its numbers by our names. Live columns are leaves."""
    mask = inputs["mask"] > 0.5
    dtype = inputs["logprobs"].dtype
    tensors: batches.Tensors = {"completion.mask": mask}
    for ours, theirs in COLUMNS.items():
        tensors[f"completion.{ours}"] = inputs[theirs].clone().requires_grad_(ours in LIVE)
    for role in named_by(method.needs()):
        tensors[f"completion.{role}_logps"] = inputs[f"{role}_logprobs"].clone()
    tensors["groups"] = inputs["group_index"].long()
    tensors["rewards"] = tensors["earned"] = given.get("rewards", inputs["scores"])
    tensors["auxiliary"] = torch.zeros(len(mask), dtype=torch.bool)
    needs = method.needs()
    hints = get_type_hints(needs.batch)
    for name, (_, default) in needs.rows.items():
        if name not in tensors:
            tensors[name] = torch.full((len(mask),), default or 0).to(blank(hints[name], 0, 0).dtype)
    for name in needs.prepared:
        made = blank(hints[name], *mask.shape)
        tensors[name] = made.to(dtype) if made.is_floating_point() else made
    for name, value in given.items():
        wide = value.ndim == 1 and name in ("advantages", "returns")
        tensors[name] = value[:, None].expand(mask.shape).masked_fill(~mask, 0.0) if wide else value
    return batches.build(needs, tensors)


def random_rollouts(
    method: OnlineMethod[Any], *, size: int = 4, width: int = 6, seed: int = 0, rewards: Tensor | None = None
) -> Any:
    """Three prompts with `size` completions of unequal lengths, float64; the policy has moved since it wrote."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    rows = 3 * size
    lengths = torch.randint(1, width + 1, (rows,), generator=draw)
    old = -normal(rows, width).abs()
    inputs = {
        "mask": (torch.arange(width) < lengths[:, None]).double(), "group_index": torch.arange(rows) // size,
        "logprobs": old + 0.1 * normal(rows, width), "old_logprobs": old, "rollout_logprobs": old,
        "ref_logprobs": old + 0.2 * normal(rows, width), "entropies": normal(rows, width).abs(),
        "values": normal(rows, width), "old_values": normal(rows, width), "scores": normal(rows),
    }  # fmt: skip
    inputs |= {f"{role}_logprobs": old + 0.2 * normal(rows, width) for role in named_by(method.needs())}
    return rollouts(method, inputs, rewards=inputs["scores"] if rewards is None else rewards)


def on_policy(batch: Any) -> Any:
    """The same completions while the policy still is the one that wrote them."""
    written = batch.completion
    now = dataclasses.replace(written, logps=written.old_logps.clone().requires_grad_())
    return dataclasses.replace(batch, completion=now)


def gradient(method: OnlineMethod[Any], batch: Any) -> Tensor:
    """Of the loss, with respect to each log-probability (B, T)."""
    total = batches.objective(method.loss(batch))
    return torch.autograd.grad(total, batch.completion.logps)[0]
