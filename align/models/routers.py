"""The routers of a mixture of experts: what they decided in a pass, and whether their loss is the one that is known."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from align.functional.routing import balance_loss, routed
from align.models.parts import unwrapped


def experts_per_token(config: Any) -> int:
    """How many experts a token goes to; 0 where the model has none, or does not say."""
    return int(getattr(config.get_text_config(), "num_experts_per_tok", None) or 0)


def routing(output: Any, occurrences: Int[Tensor, "R L"], top_k: int) -> Float[Tensor, "3 E"]:
    """Choices, sums of probabilities, and (in every column) tokens times layers, of a pass that recorded its routers.

    A token counts as often as it occurs; a pass may have been wider than `occurrences` by padding.
    """
    layers = [logits.reshape(-1, logits.shape[-1]) for logits in output.router_logits]
    height, width = occurrences.shape
    weights = F.pad(occurrences, (0, len(layers[0]) // height - width)).flatten().float()
    sums = routed(layers, weights, top_k)
    return torch.cat([sums, (weights.sum() * len(layers)).expand(1, sums.shape[1])])


@torch.no_grad()
def router_gap(model: nn.Module, input_ids: Int[Tensor, "R L"]) -> float:
    """Relative difference between our balance loss and the model's own over rows of which the second half of the last
    is padding; infinite where the model has none, or makes it in another way."""
    inner = unwrapped(model)
    mask = torch.ones_like(input_ids)
    mask[-1, input_ids.shape[1] // 2 :] = 0
    try:
        out = inner(input_ids=input_ids, attention_mask=mask, output_router_logits=True, use_cache=False)
        ours = routing(out, mask, experts_per_token(inner.config))
        theirs = float(out.aux_loss)
    except (AttributeError, TypeError, RuntimeError, ValueError, IndexError):
        return float("inf")
    return abs(balance_loss(ours[:2], ours[2, 0].item()).item() - theirs) / max(abs(theirs), 1e-6)
