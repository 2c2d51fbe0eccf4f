"""The pieces of a causal language model or a one-label classifier, wrapped by peft or not."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

LogitMap = Callable[[Tensor], Tensor]


def unwrapped(model: nn.Module) -> Any:
    """The transformers model inside a PeftModel (its LoRA layers stay in place), or the model itself."""
    base = getattr(model, "get_base_model", None)
    return base() if callable(base) else model


def backbone(model: nn.Module) -> nn.Module:
    """The module that makes `last_hidden_state` (B, L, hidden).

    Called with input_ids, attention_mask (4-D additive, a dict of those, a BlockMask, or None), position_ids and
    use_cache=False. LoRA layers within it are active.
    """
    inner = unwrapped(model)
    found = getattr(inner, inner.base_model_prefix, None)
    assert isinstance(found, nn.Module), f"{type(inner).__name__} has no backbone of its own"
    assert found is not inner, f"{type(inner).__name__} is a backbone without a head"
    return found


def lm_head(model: nn.Module) -> nn.Module:
    """(..., hidden) -> (..., vocabulary), before `head_transform`. Call it; its `weight` lacks trained token rows."""
    found = unwrapped(model).get_output_embeddings()
    assert isinstance(found, nn.Module), f"{type(model).__name__} has no language-model head"
    return found


def scalar_head(model: nn.Module) -> nn.Module:
    """(..., hidden) -> (..., 1) of a one-label sequence classifier."""
    inner = unwrapped(model)
    found = next((getattr(inner, name) for name in ("score", "classifier") if hasattr(inner, name)), None)
    assert isinstance(found, nn.Module), f"{type(inner).__name__} has no scalar head"
    return found


def has_scalar_head(model: nn.Module) -> bool:
    return any(hasattr(unwrapped(model), name) for name in ("score", "classifier"))


def head_transform(config: Any) -> LogitMap:
    """What the architecture does to the head's output: scaling (Cohere, Granite, Falcon-H1), soft-capping (Gemma)."""
    config = config.get_text_config()
    factor = _number(config, "logit_scale") * _number(config, "lm_head_multiplier") / _number(config, "logits_scaling")
    cap = getattr(config, "final_logit_softcapping", None)

    def transform(logits: Tensor) -> Tensor:
        logits = logits if factor == 1.0 else logits * factor
        return logits if cap is None else torch.tanh(logits / cap) * cap

    return transform


def _number(config: Any, name: str) -> float:
    value = getattr(config, name, None)
    return 1.0 if value is None else float(value)


HEAD_GAP = 1e-3  # largest difference between own head and the model's logits that counts as rounding


@torch.no_grad()
def head_gap(model: nn.Module, input_ids: Int[Tensor, "B L"]) -> float:
    """Largest difference between own head on the backbone and the model's logits; infinite where it cannot be made.

    A gap above rounding means that this architecture does something to its logits that `head_transform` does not know:
    call the model as a whole then.
    """
    theirs: Float[Tensor, "B L V"] = model(input_ids=input_ids, use_cache=False).logits.float()
    try:
        hidden = backbone(model)(input_ids=input_ids, use_cache=False).last_hidden_state
        ours = head_transform(unwrapped(model).config)(lm_head(model)(hidden)).float()
    except (AssertionError, AttributeError, TypeError, RuntimeError):
        return float("inf")
    return float("inf") if ours.shape != theirs.shape else float((ours - theirs).abs().max())


@dataclass(frozen=True)
class Windows:
    """How far the attention layers look back. `window` counts positions: a query at p sees keys at > p - window."""

    mapping: bool  # the mask must be a dict {"full_attention": ..., "sliding_attention": ...}
    window: int | None  # None: nothing is windowed
    known: bool = True  # False: there are layers (linear, chunked, ...) that such masks cannot describe


def window_layers(config: Any) -> Windows:
    """Which masks the architecture of this config wants."""
    config = config.get_text_config()
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or ())
    known = kinds <= {"full_attention", "sliding_attention"} and not _positionless(config)
    if "sliding_attention" in kinds:
        return Windows(mapping=True, window=window, known=known)
    if kinds or getattr(config, "use_sliding_window", True) is False:
        window = None  # a config may carry a window that no layer uses (Qwen2)
    return Windows(mapping=False, window=window, known=known)


def _positionless(config: Any) -> bool:
    """True for families whose recurrence or position bias runs along the row, whatever the mask says."""
    return bool(getattr(config, "alibi", False)) or config.model_type in ("bloom", "mpt", "mamba", "mamba2", "rwkv")


def context_of(model: nn.Module) -> int:
    """Tokens that a model has positions for; of one that does not say, more than any sequence has."""
    return context_in(unwrapped(model).config)


def context_in(config: Any) -> int:
    return getattr(config.get_text_config(), "max_position_embeddings", None) or sys.maxsize


def num_block_params(model: nn.Module) -> int:
    """Parameters that each token passes through, embeddings and head apart; of experts, the routed share."""
    inner = unwrapped(model)
    apart = {id(p) for part in (inner.get_input_embeddings(), _head_or_none(inner)) if part for p in part.parameters()}
    config = inner.config.get_text_config()
    experts = getattr(config, "num_local_experts", None) or getattr(config, "num_experts", None) or 0
    share = (getattr(config, "num_experts_per_tok", None) or experts) / experts if experts else 1.0
    total = 0.0
    for name, parameter in inner.named_parameters():
        if id(parameter) not in apart:
            size = getattr(parameter, "ds_numel", parameter.numel())  # ZeRO-3 leaves empty shells
            total += size * (share if ".experts." in name else 1.0)
    return int(total)


def _head_or_none(inner: Any) -> nn.Module | None:
    return scalar_head(inner) if has_scalar_head(inner) else inner.get_output_embeddings()
