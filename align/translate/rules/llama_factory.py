"""What LLaMA-Factory alone says: stages, data sets by the names of its dataset_info.json, its own templates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from align.errors import UserError
from align.translate.draft import Draft, is_off
from align.translate.rules import course, method, model, rows, writing
from align.translate.rules.batch import per_step
from align.translate.rules.mixtures import name_of, together
from align.translate.rules.templates import fits

INFO = "dataset_info.json"
PREFERENCES = {"sigmoid": "dpo", "hinge": "hinge", "ipo": "ipo", "orpo": "orpo", "simpo": "simpo"}
OWN = {"prompt": "instruction", "query": "input", "response": "output"}  # columns of alpaca's form


def kind(draft: Draft) -> None:
    stage = draft.words.trainer
    if stage == "dpo":
        _preference(draft)
    elif stage == "kto":
        draft.put("method.name", "kto", "stage")
        for name in ("beta", "desirable_weight", "undesirable_weight"):
            method.knob(draft, name, name)
    elif stage == "rm":
        draft.put("method.name", "reward_model", "stage")
    elif stage == "ppo":
        _ppo(draft)
    else:
        draft.put("method.name", "dft" if draft.get("use_dft_loss") else "sft", "stage", "use_dft_loss")
    if draft.get("pref_ftx"):
        draft.refuse("pref_ftx", "a likelihood beside the preference is not here; orpo has one, dpop holds chosen up")
    draft.already("pref_ftx", "no second loss")


def _preference(draft: Draft) -> None:
    loss = str(draft.get("pref_loss"))
    if loss not in PREFERENCES:
        draft.refuse("pref_loss", method.not_here(loss, PREFERENCES))
    name = PREFERENCES.get(loss, "dpo")
    name = "cdpo" if name == "dpo" and draft.get("label_smoothing") else name
    draft.put("method.name", name, "stage", "pref_loss")
    method.knob(draft, "lam" if name == "orpo" else "beta", "beta")
    if name == "simpo":
        method.knob(draft, "gamma", "simpo_gamma")
    method.smoothed(draft)
    draft.no_meaning("simpo_gamma", "of simpo alone")


def _ppo(draft: Draft) -> None:
    """Its PPO is an early one of TRL's: an adaptive coefficient of the KL, a head on the policy's trunk."""
    draft.put("method.name", "ppo", "stage")
    for knob, value in {"kl_coef": 0.2, "kl_horizon": 10000.0, "clip_range": 0.2, "value_clip": 0.2, "value_coef": 0.1,
                        "gamma": 1.0, "lam": 0.95}.items():  # fmt: skip
        draft.put(f"method.{knob}", value)
    draft.put("method.kl_target", float(draft.get("ppo_target")), "ppo_target")
    size = per_step(draft)
    draft.put("training.batch_size", size, "per_device_train_batch_size", "gradient_accumulation_steps")
    draft.put("rollout.num_generations", 1, note="one completion of each prompt")
    draft.put("rollout.num_prompts", size * int(draft.get("ppo_buffer_size")), "ppo_buffer_size")
    draft.put("rollout.num_iterations", int(draft.get("num_ppo_epochs")), "num_ppo_epochs")
    draft.put("rollout.max_completion_length", int(draft.get("response_length")), "response_length")
    writing.sampling(draft)
    if not (reward := draft.get("reward_model")):
        raise UserError("reward_model: missing; PPO's completions earn what a reward model says")
    draft.put("reward.functions", [{"name": "learned", "settings": {"model": str(reward)}}], "reward_model")
    for word in ("ppo_score_norm", "whiten_rewards"):
        if draft.get(word):
            draft.refuse(word, "a running norm of rewards is not here; reward.shape: [whiten: {}] is of an experience")


# ---- rows ------------------------------------------------------------------------------------------------------------


def data(draft: Draft) -> None:
    names = [n.strip() for n in str(draft.get("dataset") or "").split(",") if n.strip()]
    info = _info(draft)
    if names:
        made = [_source(draft, name, info) for name in names]
        of = ("dataset", "dataset_dir", "mix_strategy")
        together(draft, made, *of)
    if draft.get("mix_strategy") != "concat":
        draft.refuse("mix_strategy", "rows of all are put together; draws by probabilities are weights of the sources")
    _held_out(draft)
    fits(draft, "template", ())
    if draft.says("enable_thinking"):
        thinking = {"enable_thinking": bool(draft.get("enable_thinking"))}
        draft.put("data.chat_template_kwargs", thinking, "enable_thinking")
    prompts = draft.words.trainer == "ppo"
    draft.put("data.max_length", int(draft.get("max_length")), "max_length")
    note = "it shortens prompt and answer in proportion"
    draft.put("data.overlong", "cut_prompt" if prompts else "cut_completion", note=note)
    if (count := draft.get("max_samples")) is not None:
        draft.put("data.num_rows", int(count), "max_samples", note="of each source")
    if draft.words.trainer in ("sft", "pt"):
        _learned(draft)
    for word in ("train_on_prompt", "mask_history"):
        draft.no_meaning(word, "completions are compared, and prompts are not learned")
    draft.assume("packing", draft.get("neat_packing"))
    rows.layout(draft)
    draft.already("neat_packing", "see packing")


def _learned(draft: Draft) -> None:
    whole = draft.words.trainer == "pt" or draft.get("train_on_prompt")
    last = "completion" if draft.get("mask_history") else "assistant"
    draft.put("data.loss_on", "all" if whole else last, "train_on_prompt", "mask_history")


def _held_out(draft: Draft) -> None:
    if name := draft.get("eval_dataset"):
        found = _source(draft, str(name).split(",")[0].strip(), _info(draft))
        draft.put("data.validation", found["source"], "eval_dataset")
    elif not is_off(size := draft.get("test_split_size")):
        rows.share(draft, size, "test_split_size")
    elif course.evaluates(draft):
        rows.needed(draft)


def _info(draft: Draft) -> dict[str, Any]:
    """dataset_info.json, where it is here."""
    for folder in (Path(str(draft.get("dataset_dir"))), draft.folder / str(draft.get("dataset_dir"))):
        file = folder / INFO
        if file.is_file():
            try:
                found = json.loads(file.read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise UserError(f"{file}: cannot be read: {error}") from None
            return {name: {**about, "folder": str(folder)} for name, about in found.items() if isinstance(about, dict)}
    return {}


def _source(draft: Draft, name: str, info: dict[str, Any]) -> dict[str, Any]:
    about = info.get(name)
    if about is None:
        where = f"{draft.get('dataset_dir')}/{INFO}"
        draft.refuse("dataset", f"{name}: what it is stands in {where}, which has no such entry or is not here")
        return {"source": name}
    if "file_name" in about:
        source = f"{about['folder']}/{about['file_name']}"
    else:
        source = name_of(about.get("hf_hub_url"), about.get("subset"), about.get("split"))
    columns = {k: v for k, v in _columns(draft, about).items() if k != v}
    return {"source": source, **({"columns": columns} if columns else {})}


def _columns(draft: Draft, about: dict[str, Any]) -> dict[str, str]:
    """Which columns a form reads, under our names."""
    named = about.get("columns", {})
    if about.get("formatting") == "sharegpt":
        talk = named.get("messages", "conversations")
        found = {"prompt" if about.get("ranking") else "messages": talk}
    else:
        own = {**OWN, **named}
        found = {"prompt": "{" + own["prompt"] + "}\n{" + own["query"] + "}"}
        if not about.get("ranking") and draft.words.trainer != "ppo":
            found["completion"] = own["response"]
    if about.get("ranking"):
        found |= {side: named.get(side, side) for side in ("chosen", "rejected")}
    if "kto_tag" in named:
        found["label"] = named["kto_tag"]
    return found | {word: named[word] for word in ("system", "tools") if word in named}


# ---- weights ---------------------------------------------------------------------------------------------------------


def weights(draft: Draft) -> None:
    """LoRA's base is read in bf16 where that is computed with; weights that are trained are float32."""
    kind_of, half = draft.get("finetuning_type"), not is_off(draft.get("bf16"))
    used = kind_of == "lora"
    if kind_of not in ("lora", "full"):
        draft.refuse("finetuning_type", f"{kind_of}: all weights are trained, or LoRA's alone")
    pure = bool(draft.get("pure_bf16"))
    draft.assume("dtype", "bfloat16" if pure or (used and half) else "float32")
    if draft.get("disable_gradient_checkpointing"):
        draft.assume("gradient_checkpointing", False)
    draft.elsewhere("disable_gradient_checkpointing", "training.gradient_checkpointing")
    draft.assume("attn_implementation", "sdpa")
    draft.no_meaning("flash_attn", "the layouts choose; packed rows have what is fastest")
    draft.assume("lora_target_modules", draft.get("lora_target"))
    model.model(draft)
    model.lora(draft, used, "finetuning_type")
    draft.elsewhere("lora_target", "model.lora.target_modules" if used else "all weights are trained")
    draft.elsewhere("pure_bf16", "model.dtype")
    if tokens := draft.get("new_special_tokens") or draft.get("add_special_tokens"):
        draft.put("model.add_tokens", [t.strip() for t in str(tokens).split(",")], "new_special_tokens",
                  "add_special_tokens")  # fmt: skip
