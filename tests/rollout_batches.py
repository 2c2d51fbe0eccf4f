"""The shared inputs of the policy-gradient golden files as batches of the real methods."""

from __future__ import annotations

from typing import Any

import method_batches as batches
import torch
from torch import Tensor

from align.methods.base import OnlineMethod

COLUMNS = {  # ours -> theirs
    "logps": "logprobs",
    "old_logps": "old_logprobs",
    "sampler_logps": "rollout_logprobs",
    "ref_logps": "ref_logprobs",
    "entropies": "entropies",
    "values": "values",
    "old_values": "old_values",
}
LIVE = ("logps", "values")


def rollouts(method: OnlineMethod[Any], inputs: dict[str, Tensor], **given: Tensor) -> Any:
    """The batch of this method; `given` are its numbers by our names. Live columns are leaves."""
    mask = inputs["mask"] > 0.5
    dtype = inputs["logprobs"].dtype
    tensors: batches.Tensors = {"completion.mask": mask}
    for ours, theirs in COLUMNS.items():
        tensors[f"completion.{ours}"] = inputs[theirs].clone().requires_grad_(ours in LIVE)
    tensors["groups"] = inputs["group_index"].long()
    tensors["rewards"] = inputs["scores"]
    tensors["auxiliary"] = torch.zeros(len(mask), dtype=torch.bool)
    for name in ("advantages", "returns"):
        tensors[name] = torch.zeros_like(mask, dtype=dtype)
    for name, value in given.items():
        wide = value.ndim == 1 and name in ("advantages", "returns")
        tensors[name] = value[:, None].expand(mask.shape).masked_fill(~mask, 0.0) if wide else value
    return batches.build(method.needs(), tensors)
