"""Models from folders, from fresh weights, from adapters; `lm` for language, `scalar` for one number per place."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedTokenizerFast,
)

from align.errors import UserError
from align.models import quantised
from align.models.adapters import continue_adapter, new_adapter, refuse_other_lora
from align.models.embeddings import add_rows, check_vocabulary, let_pad_learn, num_rows
from align.models.fresh import NOTE, silence_dropout
from align.models.hollow import hollow
from align.models.parts import scalar_head, unwrapped
from align.models.settings import ModelSection
from align.models.sources import (
    adapter_base,
    has_adapter,
    quiet,
    read_json,
    refusing,
    resolve,
    weight_files,
    whole_weights,
)
from align.models.tokenizer import Head, added_ids

FLEX_WIDTH = 16  # dimensions of a head that flex attention's kernel needs at least
SCORE_SCALE = 0.1  # a new scalar head's outputs are about this large for hidden states of unit variance
AUTO: dict[str, Any] = {"lm": AutoModelForCausalLM, "scalar": AutoModelForSequenceClassification}
Device = Literal["meta", "hollow"] | None  # None: on the CPU; meta: not read; hollow: read when it is divided


@dataclass(frozen=True, kw_only=True)
class Where:
    """The folders that a model is read from."""

    weights: str  # config.json and safetensors
    adapter: str = ""  # a folder with adapter_config.json, on top of `weights`


def where(section: ModelSection, init_dir: Path) -> Where:
    """Where the weights of this section lie; `init_dir` is where `make_fresh` has put those of a `config`."""
    if section.config and section.model_name_or_path:
        raise UserError("model.config and model.model_name_or_path: both are given; keep the one that is meant")
    if section.config:
        assert (init_dir / NOTE).exists(), f"make_fresh has not been called for {init_dir}"
        return Where(weights=str(init_dir))
    if not section.model_name_or_path:
        raise UserError("model.model_name_or_path: missing; name a folder, a hub model or asset:NAME")
    folder = resolve(section.model_name_or_path, code=section.trust_remote_code)
    return Where(weights=adapter_base(folder), adapter=folder) if has_adapter(folder) else Where(weights=folder)


def load_policy(
    section: ModelSection, tokenizer: PreTrainedTokenizerFast, head: Head, init_dir: Path, device: Device = None
) -> Any:
    """The model to train: a PreTrainedModel, or a PeftModel around one. Train mode is the caller's to set.

    `lm` is a causal language model; `scalar` a one-label sequence classifier, whose head is new (deterministic, near
    zero) where the folder holds a language model. Dropout is 0. The embeddings have rows for every token of the
    tokenizer. An adapter in the folder goes on training; `section.lora` starts a new one otherwise. On `meta` no weight
    is read: what a look at the files' heads can find wrong is found. `hollow` is whole where that cannot be. Raises
    UserError.
    """
    places = where(section, init_dir)
    if device == "hollow" and _reads_weights(section, tokenizer, places):
        device = None
    with whole_weights():
        with torch.random.fork_rng(devices=[]):  # a head that is missing is drawn first, and an adapter alike without
            model = _load_base(section, tokenizer, head, places, device)
        return fitted(model, section, tokenizer, places)


def _reads_weights(section: ModelSection, tokenizer: PreTrainedTokenizerFast, places: Where) -> bool:
    """Whether what is put on the model is made of its weights: rows of new tokens, the magnitudes of DoRA."""
    written = read_json(Path(places.adapter, "adapter_config.json")) if places.adapter else {}
    if quantised.asked(section, places.adapter):
        return True
    dora = written.get("use_dora") or (section.lora is not None and section.lora.use_dora)
    return bool(dora or added_ids(section, tokenizer) or written.get("trainable_token_indices"))


def fitted(model: Any, section: ModelSection, tokenizer: PreTrainedTokenizerFast, places: Where) -> Any:
    """A model as it was loaded, with the rows for its tokens and the adapter. UserError."""
    added = added_ids(section, tokenizer)
    adapter_tokens = _adapter_tokens(places, num_rows(model))
    check_vocabulary(tokenizer, num_rows(model), (*added, *adapter_tokens), places.weights)
    add_rows(model, (*adapter_tokens, *added))
    let_pad_learn(model)
    if places.adapter:
        if added:
            raise UserError(
                f"model.add_tokens: {places.adapter} holds an adapter already, whose tokens are fixed; "
                "merge it with `align export` and train that folder"
            )
        if section.lora:
            refuse_other_lora(section.lora, places.adapter)
        return continue_adapter(model, places.adapter)
    return new_adapter(model, section.lora, added) if section.lora else model


def _load_base(
    section: ModelSection, tokenizer: PreTrainedTokenizerFast, head: Head, places: Where, device: Device
) -> Any:
    folder = places.weights
    config = read_model_config(section, folder, head)
    weight_files(folder)
    auto, kept = AUTO[head], None if device == "meta" else quantised.asked(section, places.adapter)
    with refusing(f"{folder}: cannot be loaded", "save or copy it again"), quiet():
        model, found = auto.from_pretrained(
            folder,
            config=config,
            dtype=_dtype(section),
            attn_implementation=choose_attention(section, config, head),
            trust_remote_code=section.trust_remote_code,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            device_map=device and "meta",
            quantization_config=quantised.config_of(kept),
        )
    if head == "lm" and any(key.startswith("score.") for key in found["unexpected_keys"]):
        raise UserError(f"{folder}: holds a one-label classifier, not a language model; name another folder")
    missing = set(found["missing_keys"])
    of_head = _of_head(model) & missing if head == "scalar" else set[str]()
    if device == "hollow" and missing == of_head and not hollow(model, folder, of_head):
        return _load_base(section, tokenizer, head, places, None)
    if head == "scalar":
        model.config.pad_token_id = model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
        _start_head(model, of_head)
        missing -= of_head
    refuse_not_finite(model, folder)
    quantised.refuse_not_finite(model, folder)
    if missing or found["mismatched_keys"]:
        wrong = sorted(missing) or [str(key) for key in found["mismatched_keys"]]
        raise UserError(
            f"{folder}: lacks weights of a {type(model).__name__}: {', '.join(wrong[:4])} ({len(wrong)} in all); "
            "its config.json does not belong to its weights, or it holds another kind of model"
        )
    return quantised.settled(model, kept, train=section.load_in_4bit)


def refuse_not_finite(model: Any, folder: str) -> None:
    """UserError naming the tensors that hold NaN or infinity; what is not read yet is looked at when it is."""
    here = [(n, p) for n, p in model.named_parameters() if not (p.is_meta or hasattr(p, "stored"))]
    whole = [(n, p) for n, p in here if p.numel() and p.is_floating_point()]
    odd = [n for n, p in whole if not torch.stack(torch.aminmax(p.detach())).isfinite().all()]
    if odd:
        raise UserError(
            f"{folder}: its weights hold NaN or infinity in {len(odd)} of {len(whole)} tensors, the first {odd[0]}; "
            "they were spoilt before they were saved, take an earlier checkpoint or another model"
        )


def read_model_config(section: ModelSection, folder: str, head: Head) -> Any:
    """The config in `folder`, dropout silenced. UserError where transformers has no such model, or does not read it."""
    written = read_json(Path(folder, "config.json"))
    if "auto_map" in written and written.get("model_type") not in CONFIG_MAPPING and not section.trust_remote_code:
        raise UserError(
            f"{folder}: its architecture is Python code in the folder; read it, and if you trust it write "
            "model.trust_remote_code: true"
        )
    extra: dict[str, Any] = {"num_labels": 1, "problem_type": "regression"} if head == "scalar" else {}
    with refusing(f"{folder}/config.json: transformers refuses it"), quiet():
        config = AutoConfig.from_pretrained(
            folder, trust_remote_code=section.trust_remote_code, local_files_only=True, **extra
        )
        silence_dropout(config, keep=section.config)
    if not section.trust_remote_code:
        refuse_headless(config, head, folder)
    return config


def refuse_headless(config: Any, head: Head, place: str) -> None:
    """UserError where transformers has no model of this config with this head."""
    if type(config) not in AUTO[head]._model_mapping:
        kind = "causal language model" if head == "lm" else "one-label sequence classifier"
        raise UserError(f"{place}: transformers has no {kind} for {config.model_type}; choose another architecture")


def choose_attention(section: ModelSection, config: Any, head: Head) -> str:
    """The attention kernel: the recipe's, else what `best_attention` finds for the device that is here."""
    if section.attn_implementation:
        if _capped(config) and section.attn_implementation == "sdpa":
            raise UserError(
                f"model.attn_implementation: sdpa drops {config.model_type}'s soft-capping of attention; use eager"
            )
        return section.attn_implementation
    mapping = AUTO[head]._model_mapping
    kind = mapping.get(type(config), None)
    return best_attention(kind, config, "cuda" if torch.cuda.is_available() else "cpu")


def best_attention(kind: Any, config: Any, device: str) -> str:
    """Flex attention on a GPU, else sdpa, else eager: the first that model class `kind` has and that is right.

    Gemma-2's soft-capping of attention scores is dropped by sdpa without a word, and kept by flex attention; that one
    has no dropout and no heads narrower than 16.
    """
    text = config.get_text_config()
    fits = _head_width(text) >= FLEX_WIDTH and not getattr(text, "attention_dropout", 0.0)
    if device == "cuda" and fits and getattr(kind, "_supports_flex_attn", False):
        return "flex_attention"
    return "sdpa" if getattr(kind, "_supports_sdpa", False) and not _capped(config) else "eager"


@contextmanager
def writing(model: Any) -> Iterator[None]:
    """While a model writes, one token at a time, flex attention would only be compiled again and again; and routers
    make no loss, which transformers would hold against the mask of all tokens and fail."""
    inner = unwrapped(model)
    config, flex = inner.config.get_text_config(), inner.config._attn_implementation == "flex_attention"
    routers = getattr(config, "output_router_logits", False)
    if flex:
        inner.set_attn_implementation(best_attention(type(inner), inner.config, "cpu"))
    if routers:
        config.output_router_logits = False
    try:
        yield
    finally:
        if flex:
            inner.set_attn_implementation("flex_attention")
        if routers:
            config.output_router_logits = True


def _capped(config: Any) -> bool:
    return getattr(config.get_text_config(), "attn_logit_softcapping", None) is not None


def _head_width(text: Any) -> int:
    heads = getattr(text, "num_attention_heads", None) or 1
    return getattr(text, "head_dim", None) or getattr(text, "hidden_size", 0) // heads


def _dtype(section: ModelSection) -> torch.dtype:
    return torch.float32 if section.dtype == "auto" else getattr(torch, section.dtype)


def _of_head(model: Any) -> set[str]:
    """Names of the parameters of a scalar head."""
    head: Any = scalar_head(model)
    return {f"{name}.{key}" for name, m in model.named_modules() if m is head for key, _ in m.named_parameters()}


def _start_head(model: Any, missing: set[str]) -> None:
    """Draws a scalar head that the folder does not have."""
    if missing:
        head: Any = scalar_head(model)
        weight = head.weight
        with torch.no_grad():
            draw = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
            weight.copy_(draw * SCORE_SCALE / math.sqrt(weight.shape[-1]))
            if getattr(head, "bias", None) is not None:
                head.bias.zero_()


def _adapter_tokens(places: Where, rows: int) -> tuple[int, ...]:
    """Tokens that an adapter folder brings and that the base has no row for; it trained the rows itself."""
    if not places.adapter:
        return ()
    trained = read_json(Path(places.adapter, "adapter_config.json")).get("trainable_token_indices") or {}
    where_written = f"{places.adapter}/adapter_config.json: trainable_token_indices"
    with refusing(f"{where_written}: neither a list of ids, nor lists by name"):
        listed = trained if isinstance(trained, list) else [i for ids in trained.values() for i in ids]
        return tuple(sorted({i for i in listed if i >= rows}))
