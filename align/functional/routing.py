"""How evenly a mixture of experts is used."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def routed(
    router_logits: Sequence[Float[Tensor, "N E"]], weights: Float[Tensor, " N"], top_k: int
) -> Float[Tensor, "2 E"]:
    """Of all layers together, each token counting `weights` times: how often each expert was among the `top_k` that a
    token went to (without gradient), and the sum of its probabilities."""
    found: list[Tensor] = []
    for logits in router_logits:
        probs = logits.float().softmax(-1)
        chosen = torch.zeros_like(probs).scatter(1, probs.detach().topk(top_k, dim=-1).indices, 1.0)
        found.append(torch.stack([weights @ chosen, weights @ probs]))
    return torch.stack(found).sum(0)


def balance_loss(sums: Float[Tensor, "2 E"], count: float) -> Float[Tensor, ""]:
    """E sum_e f_e P_e (arXiv:2101.03961, eq. 4 to 6): f_e the share of `count` tokens that went to expert e, P_e its
    mean probability. `count` is the number of tokens times that of layers; even use gives `top_k`."""
    shares, means = sums / count
    return len(shares) * (shares.detach() * means).sum()
