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
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.cache_utils import DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from align.functional.precision import lowered
from align.rollout.local.roomy_cache import RoomyLayer

NAME = "align_shared_prompts"
Prompts = tuple[Tensor, Tensor, Tensor | None]  # keys, values (P, heads, L, d), and a mask (P, 1, 1, L) of them


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
        self._joined: tuple[Family, Family] | None = None

    def after(self, indices: Int[Tensor, " M"]) -> tuple[Family, Int[Tensor, " Q"]]:
        """The family of these rows, and which prompts still have one; computed once for the layers of a model."""
        if self._next is None or self._next[0] is not indices:
            left, renumbered = self.prompt_of[indices].unique_consecutive(return_inverse=True)
            self._next = (indices, Family(renumbered, len(left)), left)
        return self._next[1:]

    def with_(self, other: Family) -> Family:
        """The rows of another behind these; computed once for the layers of a model."""
        if self._joined is None or self._joined[0] is not other:
            prompt_of = torch.cat([self.prompt_of, other.prompt_of + self.num_prompts])
            self._joined = (other, Family(prompt_of, self.num_prompts + other.num_prompts))
        return self._joined[1]


class SharedLayer(RoomyLayer):
    """A layer whose own keys and values are those of the completions; those of the prompts stand beside them."""

    def __init__(self, keys: Tensor, values: Tensor, mask: Tensor | None, family: Family):
        """Keys, values and mask of the prompts; the mask is added to the scores."""
        own = (keys.shape[1], 0, keys.shape[3])
        super().__init__(*(x.new_empty(len(family.prompt_of), *own) for x in (keys, values)))
        self.prompt: Prompts = (keys, values, mask)
        self.family = family
        self.ragged = False  # whether completions have begun at different times, so that some have no keys in front

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        keys, values = super().update(key_states, value_states, *args, **kwargs)
        keys.shared = self  # type: ignore[attr-defined]
        return keys, values

    def get_seq_length(self) -> int:
        return self.prompt[0].shape[2] + super().get_seq_length()

    def join(self, other: RoomyLayer, length: int) -> None:
        assert isinstance(other, SharedLayer)
        super().join(other, length)
        self.family, self.ragged = self.family.with_(other.family), True
        self.prompt = _stacked(self.prompt, other.prompt)

    def batch_select_indices(self, indices: Tensor) -> None:
        super().batch_select_indices(indices)
        before, (self.family, left) = self.family, self.family.after(indices)
        if len(left) < before.num_prompts:
            keys, values, mask = self.prompt
            self.prompt = (keys[left], values[left], mask if mask is None else mask[left])


def _stacked(above: Prompts, below: Prompts) -> Prompts:
    """Padded in front to one length."""
    length = max(above[0].shape[2], below[0].shape[2])
    keys = torch.cat([_in_front(part[0], length) for part in (above, below)])
    values = torch.cat([_in_front(part[1], length) for part in (above, below)])
    if above[2] is None and below[2] is None and above[0].shape[2] == below[0].shape[2]:
        return keys, values, None
    return keys, values, torch.cat([_hidden_in_front(*part, length) for part in (above, below)])


def _in_front(states: Tensor, length: int) -> Tensor:
    return F.pad(states, (0, 0, length - states.shape[2], 0))


def _hidden_in_front(keys: Tensor, values: Tensor, mask: Tensor | None, length: int) -> Tensor:
    seen = keys.new_zeros(len(keys), 1, 1, keys.shape[2]) if mask is None else mask
    return F.pad(seen, (length - keys.shape[2], 0), value=-torch.inf)


def sharable(cache: Any, model: Any) -> bool:
    """Whether all of a cache can be shared, and the model reads it as one that is."""
    if model.config._attn_implementation != NAME:
        return False
    layers = [layer for layer in cache.layers if type(layer) is DynamicLayer and layer.is_initialized]
    alike = all(x.keys.device.type == "cpu" and x.keys.shape == x.values.shape for x in layers)  # type: ignore[union-attr]
    return alike and len(layers) == len(cache.layers)


def share(cache: Any, mask: Int[Tensor, "P L"], prompt_of: Int[Tensor, " N"]) -> None:
    """Turns the cache of P prompts into one of N rows."""
    family = Family(prompt_of, len(mask))
    padded = None
    if not mask.all():
        (like,) = lowered(cache.layers[0].keys)
        padded = torch.zeros(mask.shape, dtype=like.dtype).masked_fill_(mask == 0, -torch.inf)[:, None, None]
    states = [lowered(layer.keys, layer.values) for layer in cache.layers]
    cache.layers = [SharedLayer(keys, values, padded, family) for keys, values in states]


def shared_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **rest: Any
) -> tuple[Tensor, None]:
    """transformers' attention function; query (N, heads, 1, d), answer (N, 1, heads, d)."""
    shared: SharedLayer | None = getattr(key, "shared", None)
    if shared is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **rest)  # type: ignore[return-value]
    (query,) = lowered(query)
    rows, heads, _, width = query.shape
    asked = query.reshape(rows, key.shape[1], -1, width)  # the heads that share keys ask together
    mask = None if attention_mask is None or not shared.ragged else _of_own(attention_mask, asked, key.shape[2])
    after, of_after = _kernel(asked, key, value, attn_mask=mask, scale=rest.get("scaling"))
    before, of_before = _of_prompts(asked, shared, rest)
    part = torch.sigmoid(of_before - of_after)[..., None].to(query.dtype)
    return torch.lerp(after, before, part).reshape(rows, 1, heads, width), None


AttentionInterface.register(NAME, shared_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)

_kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
Found = tuple[Float[Tensor, "N heads asked d"], Float[Tensor, "N heads asked"]]  # and logarithms of sums


def _of_own(mask: Tensor, asked: Float[Tensor, "N heads asked d"], length: int) -> Float[Tensor, "N 1 asked K"]:
    """What is added to the scores of the completions' own keys; made once for the layers of a model."""
    if not hasattr(mask, "of_own"):
        hidden = ~mask[..., -length:]
        added = torch.zeros(hidden.shape, dtype=asked.dtype).masked_fill_(hidden, -torch.inf)
        mask.of_own = added.expand(-1, -1, asked.shape[2], -1)  # type: ignore[attr-defined]
    return mask.of_own  # type: ignore[attr-defined]


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
