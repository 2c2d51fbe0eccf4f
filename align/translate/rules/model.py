"""Weights, their precision, attention, LoRA."""

from __future__ import annotations

from typing import Any

from align.translate.draft import Draft, is_off

DTYPES = {"float32": "float32", "bfloat16": "bfloat16", "float16": "float16", "auto": "auto", "bf16": "bfloat16",
          "fp16": "float16", "fp32": "float32"}  # fmt: skip
PEFT = ["q_proj", "v_proj"]  # what peft adapts of Llama, Mistral, Qwen where nothing is said
LORA = ("lora_r", "lora_alpha", "lora_dropout", "lora_target_modules", "use_rslora", "use_dora")
KIND, TWICE = ("bnb_4bit_quant_type", "quantization_type"), ("use_bnb_nested_quant", "double_quantization")
EIGHT = "what 8 bits round depends on the rows beside a row, and so on how a batch is divided; load_in_4bit does not"
FLASH = "flash_attention_2"
INIT = {"attn_implementation": "attn_implementation", "dtype": "dtype", "torch_dtype": "dtype",
        "trust_remote_code": "trust_remote_code", "revision": "model_revision"}  # of model_init_kwargs: TRL's own key
IDLE = ("device_map", "low_cpu_mem_usage", "use_cache")  # of them those that change no number


def model(draft: Draft) -> None:
    _init(draft)
    if name := draft.get("model_name_or_path"):
        named(draft, str(name))
    for word in ("tokenizer_name_or_path", "trust_remote_code", "router_aux_loss_coef"):
        if not is_off(draft.get(word)):
            draft.put(f"model.{word}", draft.get(word), word)
    if name := draft.get("ref_model"):
        draft.put("model.ref_model_name_or_path", str(name), "ref_model")
    if draft.get("precompute_ref_log_probs"):
        draft.put("model.reference", "cached", "precompute_ref_log_probs")
    _attention(draft)
    _weights(draft)
    precision(draft)
    draft.put("training.gradient_checkpointing", bool(draft.get("gradient_checkpointing")), "gradient_checkpointing")
    lora(draft, bool(draft.get("use_peft")), "use_peft")


def _init(draft: Draft) -> None:
    """What a model is made with, where the config's own keys for it do not say it."""
    asked = draft.get("model_init_kwargs")
    if not isinstance(asked, dict) or not asked:
        return
    if odd := [key for key in asked if key not in (*INIT, *IDLE)]:
        draft.refuse("model_init_kwargs", f"{', '.join(odd)}: of these keys {', '.join(INIT)} are read")
    for key, word in INIT.items():
        if key in asked and not draft.says(word):
            draft.given[draft.words.own(word)] = asked[key]
    draft.elsewhere("model_init_kwargs", "its keys, each as one of the config's own")


def named(draft: Draft, name: str) -> None:
    """The model, with its revision behind it."""
    revision = draft.get("model_revision")
    if revision in (None, "", "main"):
        draft.put("model.model_name_or_path", name, "model_name_or_path")
        draft.already("model_revision", "main is what is read where nothing is said")
    else:
        draft.put("model.model_name_or_path", f"{name}@{revision}", "model_name_or_path", "model_revision")


def _attention(draft: Draft) -> None:
    name = draft.get("attn_implementation")
    if name is None and draft.get("use_flash_attention_2"):
        name = FLASH
    if name is None:
        return
    if str(name).startswith("flash") or name == "sdpa":
        draft.no_meaning("attn_implementation", "the layouts choose; packed rows have what is fastest")
        draft.no_meaning("use_flash_attention_2", "the layouts choose; packed rows have what is fastest")
    else:
        draft.put("model.attn_implementation", str(name), "attn_implementation")


def _weights(draft: Draft) -> None:
    """A config's `torch_dtype` was read so before it was called `dtype`; null was float32."""
    for word in ("torch_dtype", "dtype"):
        if draft.says(word):
            draft.put("model.dtype", DTYPES.get(str(draft.get(word)).removeprefix("torch."), "auto"), word)
            return
    if "torch_dtype" in draft.given:
        draft.already("torch_dtype", "null is float32")
    value = draft.get("dtype")
    if value:
        draft.put("model.dtype", DTYPES[str(value)], "dtype")


def precision(draft: Draft) -> None:
    """TRL computes in bf16 where nothing is said."""
    half, other = draft.get("bf16"), draft.get("fp16")
    if not is_off(other):
        draft.refuse("fp16", "no loss scaler is here; bf16 needs none")
        draft.put("training.mixed_precision", "bf16")
    elif half == "auto":
        draft.put("training.mixed_precision", "auto", "bf16")
    elif half is None or not is_off(half):
        note = "" if draft.says("bf16") else "bf16 unless fp16 is asked for"
        draft.put("training.mixed_precision", "bf16", "bf16", note=note)
    else:
        draft.put("training.mixed_precision", "no", "bf16")
    draft.already("fp16", "not asked for")


def four_bits(draft: Draft, adapted: bool) -> None:
    """Weights of 4 bits beneath an adapter. LLaMA-Factory says how many bits there are."""
    bits = "quantization_bit" if draft.says("quantization_bit") else "load_in_4bit"
    if not is_off(draft.get("load_in_8bit")):
        draft.refuse("load_in_8bit", EIGHT)
    if draft.get(bits) not in (True, 4):
        if bits == "quantization_bit" and not is_off(draft.get(bits)):
            draft.refuse(bits, EIGHT)
        for word in (bits, "load_in_8bit"):
            draft.already(word, "all bits are kept")
        for word in (*KIND, *TWICE):
            draft.no_meaning(word, "of weights in 4 bits alone")
    elif not adapted:
        draft.refuse(bits, "weights of 4 bits do not learn; an adapter above them does")
    else:
        draft.put("model.load_in_4bit", True, bits)
        draft.put("model.bnb_4bit_quant_type", next(filter(None, map(draft.get, KIND)), "nf4"), *KIND)
        said = [value for word in TWICE if (value := draft.get(word)) is not None]
        draft.put("model.bnb_4bit_use_double_quant", bool(said[0]) if said else _twice(draft), *TWICE)


def _twice(draft: Draft) -> bool:
    """Whether scales have 8 bits where nothing is said."""
    return draft.words.project in ("LLaMA-Factory", "axolotl", "OpenRLHF")


def lora(draft: Draft, used: bool, word: str) -> None:
    four_bits(draft, used)
    if not used:
        draft.already(word, "all weights are trained")
        for name in LORA:
            draft.no_meaning(name, "all weights are trained")
        return
    draft.put("model.lora.r", int(draft.get("lora_r")), "lora_r")
    draft.put("model.lora.lora_alpha", int(draft.get("lora_alpha", 2 * int(draft.get("lora_r")))), "lora_alpha")
    draft.put("model.lora.lora_dropout", float(draft.get("lora_dropout") or 0.0), "lora_dropout")
    found = draft.get("lora_target_modules")
    draft.put("model.lora.target_modules", _targets(found), "lora_target_modules",
              note="" if found else "what peft adapts of Llama, Mistral and Qwen")  # fmt: skip
    for name in ("use_rslora", "use_dora"):
        if draft.get(name):
            draft.put(f"model.lora.{name}", True, name)
    draft.elsewhere(word, "model.lora")


def _targets(found: Any) -> str | list[str]:
    if not found:
        return PEFT
    names = [n.strip() for n in found.split(",")] if isinstance(found, str) else [str(n) for n in found]
    return "all-linear" if names in (["all"], ["all-linear"]) else names
