"""What axolotl alone says: its data sets and their types, its adapters, evaluations and checkpoints per epoch."""

from __future__ import annotations

from typing import Any

from align.translate.draft import Draft, is_off
from align.translate.rules import course, method, model, rows
from align.translate.rules.mixtures import name_of, together
from align.translate.rules.templates import fits

PLAIN = ("path", "type", "split", "name", "ds_type", "data_files")  # keys of a data set that are read
FIELDS = (
    "field", "field_messages", "field_chosen", "field_rejected", "field_prompt", "field_completion", "field_label",
)  # fmt: skip
HARMLESS = (
    "roles", "message_property_mappings", "shards", "conversation", "chat_template", "train_on_eos",
    "message_field_role", "message_field_content", "drop_system_message",
)  # fmt: skip
ALPACA = {"prompt": "{instruction}\n{input}", "completion": "output"}
ATTENTION = ("flash_attention", "sdp_attention", "eager_attention")


def kind(draft: Draft) -> None:
    name = draft.words.trainer
    draft.put("method.name", "reward_model" if name == "reward" else name, "rl", "reward_model")
    if name == "sft":
        draft.put("method.aggregation", "token_mean", note="a step's tokens count alike")
    if name in ("dpo", "ipo", "kto", "simpo"):
        method.knob(draft, "beta", "beta")
    if name == "kto":
        method.knob(draft, "desirable_weight", "desirable_weight")
        method.knob(draft, "undesirable_weight", "undesirable_weight")
    if name == "orpo":
        draft.put("method.lam", draft.get("orpo_alpha"), "orpo_alpha")
    if name == "simpo":
        method.knob(draft, "gamma", "simpo_gamma")
        if draft.get("cpo_alpha", 1.0):
            draft.refuse("cpo_alpha", "a likelihood beside the preference, which is there unless it is 0, is not here")


def data(draft: Draft) -> None:
    parts = [part for part in draft.get("datasets") or [] if isinstance(part, dict)]
    made = [_source(draft, part) for part in parts]
    if made:
        together(draft, made, "datasets")
    tests = draft.get("test_datasets")
    if tests:
        found = _source(draft, tests[0])
        draft.put("data.validation", found["source"], "test_datasets")
        if len(tests) > 1:
            draft.refuse("test_datasets", "validation is one source")
    elif not is_off(size := draft.get("test_split_size")):
        rows.share(draft, size, "test_split_size")
    if text := draft.get("chat_template_jinja"):
        draft.files[rows.TEMPLATE] = str(text)
        draft.put("data.chat_template", rows.TEMPLATE, "chat_template", "chat_template_jinja")
    else:
        fits(draft, "chat_template", ("tokenizer_default",))
    draft.put("data.max_length", int(draft.get("max_length")), "max_length")
    cut = "drop" if draft.get("excess_length_strategy") == "drop" else "cut_completion"
    draft.put("data.overlong", cut, "excess_length_strategy")
    if draft.words.trainer == "sft":
        draft.put("data.loss_on", "all" if draft.get("train_on_inputs") else "assistant", "train_on_inputs")
    else:
        draft.no_meaning("train_on_inputs", "completions are compared, and prompts are not learned")
    rows.layout(draft)
    draft.no_meaning("max_prompt_length", "sequence_len bounds rows")


def _source(draft: Draft, part: dict[str, Any]) -> dict[str, Any]:
    """One of its data sets, with the columns that its type reads."""
    name = part.get("data_files") or part.get("path")
    if isinstance(name, list):
        draft.refuse("datasets", f"{part.get('path')}: name each file as a source of its own")
        name = name[0]
    local = part.get("ds_type") or part.get("data_files")
    on_hub = name_of(name, part.get("name"), part.get("split"), part.get("revision"))
    made: dict[str, Any] = {"source": str(name) if local else on_hub}
    if columns := {k: v for k, v in _columns(draft, part).items() if k != v}:
        made["columns"] = columns
    if part.get("roles_to_train", ["assistant"]) != ["assistant"]:
        draft.refuse("datasets", "roles_to_train: the assistant's turns are learned, or all")
    known = (*PLAIN, *FIELDS, *HARMLESS, "roles_to_train")
    if odd := [key for key, value in part.items() if key not in known and not is_off(value)]:
        draft.refuse("datasets", f"{', '.join(odd)}: a source has columns, and no such key")
    return made


def _columns(draft: Draft, part: dict[str, Any]) -> dict[str, str]:
    form, trainer = part.get("type"), draft.words.trainer
    if isinstance(form, dict):
        return _described(draft, form)
    form = str(form or "")
    if form == "completion":
        return {"text": part.get("field", "text")}
    if form.startswith("chat_template"):
        talk = str(part.get("field_messages", "messages"))
        if trainer == "sft":
            return {"messages": talk}
        return {"prompt": talk, "chosen": part.get("field_chosen", "chosen"),
                "rejected": part.get("field_rejected", "rejected")}  # fmt: skip
    if trainer == "kto" and form.endswith((".ultra", ".argilla")):
        return {}
    if form == "alpaca":
        draft.refuse("datasets", "type alpaca: it writes a preamble around each row, which the columns alone do not")
        return dict(ALPACA)
    draft.refuse("datasets", f"type {form}: rows are read by their columns, and written by the chat template")
    return {}


def _described(draft: Draft, form: dict[str, Any]) -> dict[str, str]:
    """A type that the config itself describes: a format, filled with the row's fields."""
    names = {word: form.get(f"field_{word}", word) for word in ("instruction", "input", "output", "system")}
    if form.get("no_input_format") or form.get("system_prompt"):
        draft.refuse("datasets", "type: one format is for all rows; no_input_format and system_prompt are others")
    text = str(form.get("format", "{instruction}"))
    for word, name in names.items():
        text = text.replace("{" + word + "}", "{" + str(name) + "}")
    return {"prompt": text, "completion": str(names["output"])}


def weights(draft: Draft) -> None:
    """Weights are read in the precision that is computed with."""
    model.named(draft, str(draft.get("model_name_or_path")))
    for word in ("tokenizer_name_or_path", "trust_remote_code"):
        if not is_off(draft.get(word)):
            draft.put(f"model.{word}", draft.get(word), word)
    half = not is_off(draft.get("bf16")) or bool(draft.get("bfloat16"))
    draft.put("model.dtype", "bfloat16" if half else "float32", "bf16", "bfloat16", "float32")
    model.precision(draft)
    checkpointing = not is_off(draft.get("gradient_checkpointing"))
    draft.put("training.gradient_checkpointing", checkpointing, "gradient_checkpointing")
    for word in ATTENTION:
        draft.no_meaning(word, "the layouts choose; packed rows have what is fastest")
    adapter = draft.get("adapter")
    if adapter not in (None, "lora", "qlora"):
        draft.refuse("adapter", f"{adapter}: LoRA is the adapter here")
    if adapter and draft.get("lora_target_linear"):
        draft.assume("lora_target_modules", "all-linear")
        draft.elsewhere("lora_target_linear", "model.lora.target_modules: all-linear")
    model.lora(draft, bool(adapter), "adapter")
    draft.no_meaning("lora_target_linear", "all weights are trained")
    _special(draft)


def _special(draft: Draft) -> None:
    found = {k: v for k, v in (draft.get("special_tokens") or {}).items() if v is not None}
    if set(found) == {"pad_token"}:
        draft.no_meaning("special_tokens", "padding changes no number")


def run(draft: Draft) -> None:
    """Evaluations and checkpoints so many times an epoch are shares of all steps."""
    epochs = float(draft.get("num_train_epochs") or 1)
    held_out = "data.validation" in draft.recipe
    for word, steps, key in (("evals_per_epoch", "eval_steps", "training.eval_steps"),
                             ("saves_per_epoch", "save_steps", "training.save_steps")):  # fmt: skip
        if key == "training.eval_steps" and not held_out:
            draft.put(key, 0)
            for name in (word, steps, "eval_strategy"):
                draft.no_meaning(name, "no row is held out")
            continue
        value, note = course.every(draft, "epoch", 0)
        if draft.says(word):
            parts = float(draft.get(word)) * epochs
            value, note = (round(1 / parts, 6), "a share of all steps") if parts > 1 else (0, "at the end")
        elif draft.says(steps):
            value, note = course.every(draft, "steps", draft.get(steps))
        draft.put(key, value, word, steps, "eval_strategy" if "eval" in key else "save_strategy", note=note)
    draft.put("training.save_total_limit", int(draft.get("save_total_limit", 4)), "save_total_limit")
    if draft.get("early_stopping_patience"):
        patience = int(draft.get("early_stopping_patience"))
        draft.put("training.early_stopping_patience", patience, "early_stopping_patience")
    draft.assume("report_to", _trackers(draft))
    course.length(draft)
    course.best(draft)
    course.told(draft)
    if directory := draft.get("output_dir"):
        draft.put("training.output_dir", str(directory), "output_dir")
    if draft.says("hub_model_id"):
        draft.assume("push_to_hub", True)
        course.afterwards(draft)


def _trackers(draft: Draft) -> list[str]:
    named = {"wandb": draft.get("wandb_project"), "tensorboard": draft.get("use_tensorboard")}
    return [name for name, asked in named.items() if asked]
