"""Models with fresh weights: made once by one process, saved, and loaded by everyone."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedTokenizerFast

from align.errors import UserError, did_you_mean
from align.models.settings import ModelSection
from align.models.sources import quiet, refusing, whole_weights
from align.models.tokenizer import added_ids
from align.system.files import aside_of, new_folder, put_folder, write_json
from align.system.sums import SUM, sealed, unsealed

NOTE = "fresh.json"  # beside the weights: what they were made from
_DROPOUT = re.compile(r"dropout|pdrop|layerdrop|drop_rate|drop_path")


def make_fresh(section: ModelSection, tokenizer: PreTrainedTokenizerFast, seed: int, directory: Path) -> None:
    """Draws the weights of `model.config` with `seed` and saves a causal language model into `directory`.

    For the main process alone. A directory made from the same config, vocabulary and seed is left as it is; one made
    from anything else is a UserError. The caller's random state does not move.
    """
    config = fresh_config(section, tokenizer)
    note = {"config": section.config, "vocabulary": config.vocab_size, "seed": seed}
    if (known := _note(directory)) is not None:
        if known == note:
            return
        raise UserError(
            f"{directory}: holds fresh weights of another model.config, tokenizer or seed; "
            "remove the folder or choose another training.output_dir"
        )
    aside = new_folder(aside_of(directory))
    with torch.random.fork_rng(devices=[]), whole_weights():
        torch.manual_seed(seed)
        with refusing("model.config: transformers makes no model of it"):
            model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager")
        with quiet():
            model.save_pretrained(aside)
    write_json(aside / NOTE, sealed(note))
    put_folder(aside, directory)


def _note(directory: Path) -> dict[str, Any] | None:
    """What weights were made from; None where there are none, or where it is damaged: then they are made again."""
    try:
        found = json.loads((directory / NOTE).read_text(encoding="utf-8"))
        return unsealed(found) if SUM in found else found
    except (OSError, ValueError, TypeError):
        return None


def fresh_config(section: ModelSection, tokenizer: PreTrainedTokenizerFast) -> Any:
    """`model.config` as transformers' config; vocabulary, BOS and EOS are the tokenizer's where they are absent.

    Added tokens get their rows when the model is loaded, as they do on top of weights from elsewhere.
    """
    keys = dict(section.config)
    model_type = keys.pop("model_type", None)
    if model_type is None:
        raise UserError("model.config.model_type: missing; it names the architecture, e.g. llama, qwen3, gpt2")
    if model_type not in CONFIG_MAPPING:
        raise UserError(
            f"model.config.model_type: transformers knows no {model_type}."
            + did_you_mean(str(model_type), CONFIG_MAPPING)
        )
    if CONFIG_MAPPING[model_type] not in AutoModelForCausalLM._model_mapping:
        raise UserError(f"model.config.model_type: transformers has no causal language model for {model_type}")
    _refuse_unknown(keys, CONFIG_MAPPING[model_type])
    size = len(tokenizer) - len(added_ids(section, tokenizer))
    keys.setdefault("vocab_size", size)
    keys.setdefault("bos_token_id", tokenizer.bos_token_id)
    keys.setdefault("eos_token_id", tokenizer.eos_token_id)
    # an id to pad with would keep that token's embedding row from learning
    keys.setdefault("pad_token_id", None)
    if isinstance(keys["vocab_size"], int) and keys["vocab_size"] < size:
        raise UserError(
            f"model.config.vocab_size: {keys['vocab_size']}, but the tokenizer has {size} tokens; leave the key out"
        )
    with refusing("model.config: transformers refuses it"):
        config = AutoConfig.for_model(model_type, **keys)
    silence_dropout(config, keep=keys)
    return config


def _refuse_unknown(keys: dict[str, Any], config_class: type[PretrainedConfig]) -> None:
    known = {*config_class().to_dict(), *config_class.attribute_map, "pad_token_id", "bos_token_id", "eos_token_id"}
    for key in keys:
        if key not in known:
            raise UserError(f"model.config.{key}: {config_class.model_type} has no such key.{did_you_mean(key, known)}")


def silence_dropout(config: Any, keep: dict[str, Any] | None = None) -> None:
    """Sets every dropout rate of a config to 0, in place, those named in `keep` apart."""
    for part in (config, config.get_text_config()):
        for name, value in list(vars(part).items()):
            if _DROPOUT.search(name) and isinstance(value, int | float) and not isinstance(value, bool):
                setattr(part, name, value if name in (keep or {}) else 0.0)
