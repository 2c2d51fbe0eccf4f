"""What OpenRLHF alone says: columns by flags, whole batches, advantage estimators."""

from __future__ import annotations

from typing import Any

from align.errors import UserError
from align.translate.draft import Draft, is_off
from align.translate.rules import course, method, model, rows, writing
from align.translate.rules.mixtures import name_of, together

ESTIMATORS = {"gae": "ppo", "rloo": "rloo", "group_norm": "grpo", "reinforce": "reinforce_pp", "dr_grpo": "dr_grpo"}
KNOBS = {  # of each method, besides those that ppo has
    "ppo": ("kl_coef", "kl_estimator", "clip_range", "value_clip", "gamma", "lam"),
    "rloo": ("kl_coef", "clip_range"),
    "grpo": ("kl_coef", "clip_range"),
    "reinforce_pp": ("kl_coef", "clip_range"),
    "dr_grpo": ("clip_range",),
}
OWN = {"rloo": "k1", "reinforce_pp": "k1", "grpo": "k3"}  # estimators of the KL
WORDS = {
    "kl_coef": "kl_coef", "kl_estimator": "kl_estimator", "clip_range": "cliprange", "value_clip": "cliprange_value",
    "gamma": "gamma", "lam": "lam",
}  # fmt: skip


def kind(draft: Draft) -> None:
    trainer = draft.words.trainer
    if trainer == "ppo":
        _online(draft)
    elif trainer == "sft":
        draft.put("method.name", "sft")
        draft.put("method.aggregation", "token_mean", note="a step's tokens count alike")
    elif trainer == "rm":
        draft.put("method.name", "reward_model")
    elif trainer == "kto":
        draft.put("method.name", "kto")
        for name in ("beta", "desirable_weight", "undesirable_weight"):
            method.knob(draft, name, name)
    else:
        smooth = draft.get("label_smoothing")
        draft.put("method.name", "ipo" if draft.get("ipo") else "cdpo" if smooth else "dpo", "ipo", "label_smoothing")
        method.knob(draft, "beta", "beta")
        method.smoothed(draft)
        draft.already("ipo", "not asked for")


def _online(draft: Draft) -> None:
    estimator = str(draft.get("advantage_estimator"))
    if estimator not in ESTIMATORS:
        raise UserError(f"advantage_estimator: {estimator} has no method here; there are {', '.join(ESTIMATORS)}")
    name = ESTIMATORS[estimator]
    draft.put("method.name", name, "advantage_estimator")
    for knob in KNOBS[name]:
        method.knob(draft, knob, WORDS[knob])
    if name == "ppo":
        draft.put("method.value_coef", 1.0, note="the critic has an optimiser of its own")
        for knob in ("kl_target", "kl_horizon", "dual_clip"):
            if draft.says(knob):
                method.knob(draft, knob, knob)
    in_loss = bool(draft.get("use_kl_loss"))
    if in_loss != (name == "grpo") and draft.get("kl_coef"):
        where = "in its loss" if name == "grpo" else "in the reward"
        draft.refuse("use_kl_loss", f"{name} has the KL {where}")
    draft.already("use_kl_loss", "as the method has it")
    if (pair := draft.get("eps_clip_low_high")) is not None and pair[0] != pair[1]:
        draft.refuse("eps_clip_low_high", f"{name}'s ratio is clipped alike on both sides; dapo's is not")
    _divergence(draft, name)
    if name != "ppo":
        for word in ("critic_learning_rate", "critic_pretrain"):
            draft.no_meaning(word, f"{name} has no critic")
    for word in (*WORDS.values(), "kl_target", "kl_horizon", "dual_clip", "eps_clip_low_high"):
        draft.no_meaning(word, f"{name} has no such knob")


def _divergence(draft: Draft, name: str) -> None:
    """Where a KL is asked for that the method has not, or makes otherwise."""
    if not draft.get("kl_coef"):
        return
    if "kl_coef" not in KNOBS[name]:
        draft.refuse("kl_coef", f"{name} has no KL to a reference; grpo has")
    elif "kl_estimator" not in KNOBS[name] and (asked := draft.get("kl_estimator", "k1")) != (own := OWN[name]):
        draft.refuse("kl_estimator", f"{asked}: {name} has {own}")


def batch(draft: Draft) -> None:
    size = int(draft.get("train_batch_size"))
    if draft.words.trainer != "ppo":
        draft.put("training.batch_size", size, "train_batch_size")
        return
    group, written = int(draft.get("num_generations")), int(draft.get("rollout_batch_size"))
    if size % group:
        raise UserError(f"train_batch_size: {size} completions, which n_samples_per_prompt {group} does not divide")
    draft.put("training.batch_size", size // group, "train_batch_size", note=f"{size} completions")
    draft.put("rollout.num_prompts", written, "rollout_batch_size")
    draft.put("rollout.num_generations", group, "num_generations")
    draft.put("rollout.num_iterations", int(draft.get("num_train_epochs") or 1), "num_train_epochs")
    draft.put("rollout.max_completion_length", int(draft.get("response_length")), "response_length")
    writing.sampling(draft)
    engines = draft.get("vllm_num_engines")
    draft.put("rollout.engine", "local" if is_off(engines) else "vllm", "vllm_num_engines")
    if not is_off(engines):
        options = {w: f"--{o}={draft.get(w)}" for w, o in writing.OPTIONS.items() if draft.get(w) is not None}
        draft.put("rollout.vllm_arguments", list(options.values()), *options)
    for word in writing.OPTIONS:
        draft.no_meaning(word, "the model in training writes")
    if draft.get("enable_vllm_is_correction"):
        draft.put("rollout.correction", "truncate", "enable_vllm_is_correction")
        high = float(draft.get("vllm_is_truncated_threshold"))
        draft.put("rollout.correction_high", high, "vllm_is_truncated_threshold")
    draft.no_meaning("vllm_is_truncated_threshold", "no correction")
    _rewards(draft)


def _rewards(draft: Draft) -> None:
    model_of = draft.get("reward_pretrain")
    if draft.get("remote_rm_url"):
        draft.refuse("remote_rm_url", "a reward is a function of yours or a model; the function may ask your server")
    names = [n.strip() for n in str(model_of).split(",")] if model_of else []
    found = [{"name": "learned", "settings": {"model": name}} for name in names]
    draft.put("reward.functions", found, "reward_pretrain")
    low, high = draft.get("reward_clip_range")
    draft.put("reward.shape", [{"clip": {"low": float(low), "high": float(high)}}], "reward_clip_range")
    if draft.get("normalize_reward"):
        why = "a running norm of rewards is not here; reward.shape: [whiten: {}] is of an experience"
        draft.refuse("normalize_reward", why)
    if draft.recipe["method.name"] == "ppo":
        critic = draft.get("critic_pretrain") or (names[0] if names else draft.get("model_name_or_path"))
        draft.put("model.critic.model_name_or_path", critic, "critic_pretrain", "reward_pretrain")
        draft.put("model.critic.learning_rate", float(draft.get("critic_learning_rate")), "critic_learning_rate")


# ---- rows ------------------------------------------------------------------------------------------------------------


def data(draft: Draft) -> None:
    word = "prompt_data" if draft.words.trainer == "ppo" else "dataset"
    split = draft.get("prompt_split" if word == "prompt_data" else "train_split")
    names = [n.strip() for n in str(draft.get(word) or "").split(",") if n.strip()]
    made: list[dict[str, Any]] = [{"source": _name(name, split)} for name in names]
    if made:
        together(draft, made, word, "prompt_split", "train_split", "dataset_split")
    for probs in ("dataset_probs", "prompt_data_probs"):
        if len({p.strip() for p in str(draft.get(probs) or "1.0").split(",")}) > 1:
            draft.refuse(probs, "rows of all are put together; draws by probabilities are weights of the sources")
        draft.already(probs, "each has the same")
    if name := draft.get("eval_dataset"):
        draft.put("data.validation", _name(str(name), draft.get("eval_split")), "eval_dataset", "eval_split")
    draft.no_meaning("eval_split", "no row is held out")
    _columns(draft)
    _lengths(draft)
    if draft.get("packing"):
        draft.put("training.layout", "packed", "packing")


def _name(name: str, split: Any) -> str:
    return name if "/" not in name or name.startswith((".", "/")) else name_of(name.partition("@")[0], None, split)


def _columns(draft: Draft) -> None:
    chat, found = draft.get("apply_chat_template"), dict[str, tuple[str, str]]()
    asked, answered = draft.get("input_key"), draft.get("output_key")
    if draft.words.trainer == "sft":
        found["messages" if chat and not answered else "prompt"] = (str(asked), "input_key")
        if answered:
            found["completion"] = (str(answered), "output_key")
    elif draft.words.trainer == "ppo":
        found["prompt"] = (str(asked), "input_key")
    elif draft.words.trainer == "kto":
        found = {"prompt": (asked, "input_key"), "completion": (answered, "output_key"),
                 "label": (draft.get("label_key"), "label_key")}  # fmt: skip
    else:
        found = {side: (str(draft.get(f"{side}_key")), f"{side}_key") for side in ("chosen", "rejected")}
        if name := draft.get("prompt_key"):
            found["prompt"] = (str(name), "prompt_key")
    form = draft.get("input_template")
    if form and "prompt" in found:
        found["prompt"] = (str(form).replace("{}", "{" + found["prompt"][0] + "}"), "input_template")
    for ours, (theirs, word) in found.items():
        if ours == theirs:
            draft.already(word, f"the column `{ours}`")
        else:
            draft.put(f"data.columns.{ours}", theirs, word)
    draft.no_meaning("label_key", "rewards read columns by their own names")
    if text := draft.get("tokenizer_chat_template"):
        draft.files[rows.TEMPLATE] = str(text)
        draft.put("data.chat_template", rows.TEMPLATE, "tokenizer_chat_template")
    how = "messages are written by the tokenizer's template, texts are joined as they are"
    draft.elsewhere("apply_chat_template", how)


def _lengths(draft: Draft) -> None:
    if draft.words.trainer == "ppo":
        draft.put("data.max_length", int(draft.get("prompt_max_len")), "prompt_max_len")
    else:
        draft.put("data.max_length", int(draft.get("max_length")), "max_length")
    draft.put("data.overlong", "cut_prompt" if draft.words.trainer == "ppo" else "cut_completion")
    if (count := draft.get("max_samples")) is not None and float(count) < 1e8:
        draft.put("data.num_rows", int(float(count)), "max_samples")
    if draft.words.trainer == "sft":
        whole, every = draft.get("pretrain_mode"), draft.get("multiturn")
        value = "all" if whole else "assistant" if every else "completion"
        draft.put("data.loss_on", value, "pretrain_mode", "multiturn")


def weights(draft: Draft) -> None:
    half = not is_off(draft.get("bf16")) or str(draft.get("param_dtype", "bf16")).startswith("bf")
    draft.assume("torch_dtype", "float32")
    draft.assume("bf16", half)
    draft.elsewhere("param_dtype", "training.mixed_precision")
    draft.no_meaning("flash_attn", "the layouts choose; packed rows have what is fastest")
    model.model(draft)
    model.lora(draft, int(draft.get("lora_r") or 0) > 0, "lora_r")
    low, high = draft.get("adam_betas")
    draft.put("optim.adam_beta1", float(low), "adam_betas")
    draft.put("optim.adam_beta2", float(high), "adam_betas")


def run(draft: Draft) -> None:
    """Its steps of -1 are at the end alone."""
    held_out = "data.validation" in draft.recipe
    steps = int(draft.get("eval_steps") or -1)
    draft.put("training.eval_steps", max(0, steps) if held_out else 0, "eval_steps")
    draft.put("training.save_steps", max(0, int(draft.get("save_steps") or -1)), "save_steps")
    draft.put("training.save_total_limit", max(1, int(draft.get("save_total_limit"))), "save_total_limit")
    word = "num_episodes" if draft.words.trainer == "ppo" else "num_train_epochs"
    draft.put("training.num_train_epochs", float(draft.get(word) or 1), word)
    trackers = {"wandb": draft.get("use_wandb"), "tensorboard": draft.get("use_tensorboard")}
    draft.put("logging.report_to", [n for n, asked in trackers.items() if asked], "use_wandb", "use_tensorboard")
    draft.put("logging.logging_steps", max(1, int(draft.get("logging_steps"))), "logging_steps")
    if name := draft.get("run_name"):
        draft.put("name", str(name), "run_name")
    if directory := draft.get("output_dir"):
        draft.put("training.output_dir", str(directory), "output_dir")
    course.best(draft)
