"""TRL's config, and the rows and models beside it, as a recipe."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import datasets
from transformers import PreTrainedModel

from align.errors import Findings, Mistakes, UserError
from align.translate.draft import Draft
from align.translate.origin import Origin
from align.translate.whole import Original, translate
from align.translate.written import lost
from align.trl.adapters import lora_of

REFUSED = {  # arguments of TRL's trainers, and why nothing here is done with them
    "data_collator": "rows are laid out by training.layout, which changes no number",
    "compute_loss_func": "a loss is a method, which is a class: see `align methods` and CONTRIBUTING.md",
    "compute_metrics": "the metrics of held-out rows are the method's own",
    "preprocess_logits_for_metrics": "the metrics of held-out rows are the method's own",
    "optimizers": "name one of torch.optim by args.optim",
    "optimizer_cls_and_kwargs": "name one of torch.optim by args.optim and args.optim_args",
    "formatting_func": "map the rows before: dataset.map(...)",
    "reward_processing_classes": "a reward model's folder has its tokenizer beside it",
    "tools": "completions of several turns are rollout.environment of a recipe",
    "rollout_func": "what writes is rollout.engine of a recipe",
    "environment_factory": "completions of several turns are rollout.environment of a recipe",
}
LAUNCHED = {  # fields of its configs that accelerate is told instead
    "deepspeed": "launch/accelerate/zero2.yaml, zero3.yaml", "fsdp": "launch/accelerate/fsdp2.yaml",
}  # fmt: skip
NOTHING = (None, (None, None), [], {})
PLACE = "align.trl"


def recipe_of(trainer: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """All sections, with objects in the place of names. `given` are the arguments of TRL's trainer by name.

    Raises Mistakes with everything that is not offered.
    """
    draft = _draft(trainer, given["args"])
    found = Findings(f"{PLACE}: args.{a.key}: found {a.value!r}: {a.words}" for a in lost(draft))
    for name, why in REFUSED.items():
        if given.get(name) not in NOTHING:
            found.messages.append(f"{PLACE}: {name}: not offered: {why}")
    for name, files in LAUNCHED.items():
        if getattr(given["args"], name, None):
            cure = f"say it where the script is started: accelerate launch --config_file FILE ({files})"
            found.messages.append(f"{PLACE}: args.{name}: is not read here; {cure}")
    recipe = _nested(draft.recipe)
    recipe["data"].pop("validation", None)  # a share, where no rows are named: here they are given, or there are none
    with found:
        recipe["model"] |= _model(given)
    with found:
        recipe["data"] |= _data(trainer, given)
    if given["args"].eval_strategy != "no" and given.get("eval_dataset") is None:
        found.messages.append(f"{PLACE}: args.eval_strategy: needs an eval_dataset")
    if found.messages:
        raise Mistakes(dict.fromkeys(found.messages))
    return recipe


def _draft(trainer: str, args: Any) -> Draft:
    """What differs from the config's own defaults was said by the user."""
    device = {name: getattr(args, name) for name in ("use_cpu", "bf16", "fp16")}  # what this machine allows
    default = type(args)(output_dir=args.output_dir, **device)
    values = {f.name: getattr(args, f.name, None) for f in dataclasses.fields(args)}
    said = {name: value for name, value in values.items() if value != getattr(default, name, None)}
    said |= {"output_dir": args.output_dir, "bf16": args.bf16, "fp16": args.fp16}
    said.pop("reward_weights", None)  # of functions that the config does not name: `rewards.functions_of` has both
    plain = {name: value.value if isinstance(value, Enum) else value for name, value in said.items()}
    return translate(Original(plain, Origin("trl", trainer)))


def _nested(dotted: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"model": {}, "data": {}}
    for key, value in dotted.items():
        *path, last = key.split(".")
        at = found
        for part in path:
            at = at.setdefault(part, {})
        at[last] = value
    return found


def _model(given: Mapping[str, Any]) -> dict[str, Any]:
    model = given["model"]
    section: dict[str, Any] = {"model_name_or_path": str(model) if isinstance(model, Path) else model}
    if (tokenizer := given.get("processing_class")) is not None:
        section["tokenizer_name_or_path"] = tokenizer
    if (reference := given.get("ref_model")) is not None:
        section["ref_model_name_or_path"] = reference
    if (adapter := given.get("peft_config")) is not None:
        section["lora"] = lora_of(adapter, model)
    if (bits := given.get("quantization_config")) is not None:
        section |= _four_bits(bits)
    if isinstance(model, PreTrainedModel):
        name = str(model.dtype).removeprefix("torch.")
        section["dtype"] = name if name in ("float32", "bfloat16", "float16") else "auto"
    return section


def _four_bits(config: Any) -> dict[str, Any]:
    """UserError for other quantised weights than those of 4 bits by bitsandbytes."""
    if not getattr(config, "load_in_4bit", False):
        kind = "weights of 4 bits by bitsandbytes are trained on, as BitsAndBytesConfig(load_in_4bit=True) says"
        raise UserError(f"{PLACE}: quantization_config: found {type(config).__name__}; {kind}")
    keys = ("load_in_4bit", "bnb_4bit_quant_type", "bnb_4bit_use_double_quant")
    return {key: getattr(config, key) for key in keys}


def _data(trainer: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Rows as they are. SFT learns the completion alone where rows have a prompt and nothing else is said."""
    train = _rows("train_dataset", given.get("train_dataset"))
    section: dict[str, Any] = {"train": train}
    if (held_out := given.get("eval_dataset")) is not None:
        section["validation"] = _rows("eval_dataset", held_out)
    only = getattr(given["args"], "completion_only_loss", None)
    if trainer == "sft" and only is None and "prompt" in train.column_names:
        section["loss_on"] = "completion"
    return section


def _rows(name: str, rows: Any) -> datasets.Dataset:
    if isinstance(rows, datasets.Dataset):
        return rows
    if rows is None:
        raise UserError(f"{PLACE}: {name}: missing; give a datasets.Dataset")
    finding = f"{PLACE}: {name}: found {type(rows).__name__}; expected a datasets.Dataset"
    if isinstance(rows, Mapping):
        raise UserError(f"{finding}: one of {', '.join(map(str, rows))}")
    raise UserError(f"{finding}: Dataset.from_list(list(rows)) makes one of rows that come one after the other")
