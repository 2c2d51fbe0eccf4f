"""Keys and values of a prompt held and read once for all the completions that grow from it, on a CPU.

Attention over a prompt and what follows it is two attentions, joined by the logarithms of their sums (Juravsky and
others, 2024, "Hydragen", arXiv 2402.05099): one over the prompt's keys, with all its completions as queries of a single
call, and one over each completion's own. A prompt is then neither copied for each of its completions nor read for each.

The attention function is registered with transformers under `NAME`, and is transformers' plain sdpa wherever keys do
not come from a `SharedLayer`.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.cache_utils import DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from align.rollout.roomy_cache import RoomyLayer

NAME = "align_shared_prompts"


class Family:
    """Which prompt each row grows from."""

    def __init__(self, prompt_of: Int[Tensor, " N"], num_prompts: int):
        """`prompt_of` ascends, and every prompt has a row."""
        counts = prompt_of.bincount(minlength=num_prompts)
        first, width = counts.cumsum(0) - counts, int(counts.max())
        number = torch.arange(len(prompt_of), device=prompt_of.device)
        self.prompt_of, self.num_prompts = prompt_of, num_prompts
        self.even = bool(counts.min() == width)  # then the places are the rows' own numbers
        self.rows = (first[:, None] + number[:width]).clamp(max=len(prompt_of) - 1)  # (P, W); short ones repeat others'
        self.places = prompt_of * width + number - first[prompt_of]  # (N,) of each row in `rows`, counted through
        self._next: tuple[Tensor, Family, Tensor] | None = None

    def after(self, indices: Int[Tensor, " M"]) -> tuple[Family, Int[Tensor, " Q"]]:
        """The family of these rows, and which prompts still have one; computed once for the layers of a model."""
        if self._next is None or self._next[0] is not indices:
            left, renumbered = self.prompt_of[indices].unique_consecutive(return_inverse=True)
            self._next = (indices, Family(renumbered, len(left)), left)
        return self._next[1:]


class SharedLayer(RoomyLayer):
    """A layer whose own keys and values are those of the completions; those of the prompts stand beside them."""

    def __init__(self, keys: Tensor, values: Tensor, mask: Tensor | None, family: Family):
        """(P, heads, L, d) keys and values of the prompts; mask (P, 1, 1, L), added to the scores."""
        own = (keys.shape[1], 0, keys.shape[3])
        super().__init__(*(x.new_empty(len(family.prompt_of), *own) for x in (keys, values)))
        self.prompt = (keys, values, mask)
        self.family = family

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        keys, values = super().update(key_states, value_states, *args, **kwargs)
        keys.shared = self  # type: ignore[attr-defined]
        return keys, values

    def get_seq_length(self) -> int:
        return self.prompt[0].shape[2] + super().get_seq_length()

    def batch_select_indices(self, indices: Tensor) -> None:
        super().batch_select_indices(indices)
        before, (self.family, left) = self.family, self.family.after(indices)
        if len(left) < before.num_prompts:
            keys, values, mask = self.prompt
            self.prompt = (keys[left], values[left], mask if mask is None else mask[left])


def share(cache: Any, mask: Int[Tensor, "P L"], prompt_of: Int[Tensor, " N"], model: Any) -> bool:
    """Turns the cache of P prompts into one of N rows, if all of it can be shared and there is something to share."""
    keys = [getattr(layer, "keys", None) for layer in cache.layers]
    values = [getattr(layer, "values", None) for layer in cache.layers]
    plain = all(type(layer) is DynamicLayer and layer.is_initialized for layer in cache.layers)
    if not plain or model.config._attn_implementation != NAME or len(prompt_of) < 2 * len(mask):
        return False
    if any(k.device.type != "cpu" or k.shape != v.shape for k, v in zip(keys, values, strict=True)):
        return False
    family = Family(prompt_of, len(mask))
    padded = None
    if not mask.all():
        padded = torch.zeros(mask.shape, dtype=keys[0].dtype).masked_fill_(mask == 0, -torch.inf)[:, None, None]
    cache.layers = [SharedLayer(k, v, padded, family) for k, v in zip(keys, values, strict=True)]
    return True


def attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **rest: Any
) -> tuple[Tensor, None]:
    """transformers' attention function; query (N, heads, 1, d), answer (N, 1, heads, d)."""
    shared: SharedLayer | None = getattr(key, "shared", None)
    if shared is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **rest)  # type: ignore[return-value]
    rows, heads, _, width = query.shape
    asked = query.reshape(rows, key.shape[1], -1, width)  # the heads that share keys ask together
    (after, of_after), (before, of_before) = _own(asked, key, value, rest), _of_prompts(asked, shared, rest)
    part = torch.sigmoid(of_before - of_after)[..., None].to(query.dtype)
    return torch.lerp(after, before, part).reshape(rows, 1, heads, width), None


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, sdpa_mask)

_kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
Found = tuple[Float[Tensor, "N heads asked d"], Float[Tensor, "N heads asked"]]  # and logarithms of sums


def _own(asked: Tensor, keys: Tensor, values: Tensor, rest: dict[str, Any]) -> Found:
    return _kernel(asked, keys, values, scale=rest.get("scaling"))


def _of_prompts(asked: Float[Tensor, "N heads asked d"], shared: SharedLayer, rest: dict[str, Any]) -> Found:
    family, (keys, values, mask) = shared.family, shared.prompt
    (prompts, most), (_, heads, each, width) = family.rows.shape, asked.shape
    together = (asked if family.even else asked[family.rows]).reshape(prompts, most, heads, each, width)
    together = together.transpose(1, 2).reshape(prompts, heads, most * each, width)
    if mask is not None:
        mask = mask.expand(-1, -1, most * each, -1)
    found, sums = _kernel(together, keys, values, attn_mask=mask, scale=rest.get("scaling"))
    split = (prompts, heads, most, each)
    found = found.reshape(*split, width).transpose(1, 2).reshape(-1, heads, each, width)
    sums = sums.reshape(split).transpose(1, 2).reshape(-1, heads, each)
    return (found, sums) if family.even else (found[family.places], sums[family.places])
