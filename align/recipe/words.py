"""Other trainers' words for our keys: what TRL, transformers and common speech call a thing, and where it stands here.

Nothing is translated in silence: a foreign word is a mistake whose message names ours.
"""

from __future__ import annotations

from collections.abc import Iterable

# A method's knobs (the fixed words of the project). Several words may stand for one.
KNOBS = {
    "epsilon": "clip_range", "cliprange": "clip_range", "clip_epsilon": "clip_range", "clip_eps": "clip_range",
    "epsilon_low": "clip_low", "epsilon_high": "clip_high", "cliprange_low": "clip_low", "cliprange_high": "clip_high",
    "kl_coeff": "kl_coef", "init_kl_coef": "kl_coef", "kl_penalty_coef": "kl_coef",
    "lambda": "lam", "lambd": "lam", "lambda_": "lam", "gae_lambda": "lam",
    "discount": "gamma", "simpo_gamma": "gamma", "gamma_beta_ratio": "gamma",
    "tau": "beta", "orpo_alpha": "beta", "loss_beta": "beta",
    "eps": "label_smoothing", "smoothing": "label_smoothing", "epsilon_ls": "label_smoothing",
    "center_rewards_coefficient": "center_coef", "centring": "center_coef", "centering": "center_coef",
}  # fmt: skip

# TRL's `loss_type` values whose method bears another name here.
LOSS_TYPES = {"sigmoid": "dpo", "nll": "sft", "kto_pair": "kto", "robust": "robust", "reward": "reward_model"}

# Sections' keys: foreign word -> ours, or a sentence in parentheses where there is none.
KEYS = {
    "lr": "optim.learning_rate", "betas": "optim.adam_beta1", "adam_eps": "optim.adam_epsilon",
    "optimizer": "optim.optim", "scheduler": "optim.lr_scheduler_type", "lr_scheduler": "optim.lr_scheduler_type",
    "lr_scheduler_kwargs": "(the schedules are used as they are)", "warmup": "optim.warmup_ratio",
    "gradient_clipping": "optim.max_grad_norm", "grad_clip": "optim.max_grad_norm",
    "clip_grad_norm": "optim.max_grad_norm",
    "train_batch_size": "training.batch_size", "global_batch_size": "training.batch_size",
    "micro_batch_size": "training.max_tokens", "per_device_eval_batch_size": "training.max_tokens",
    "per_gpu_train_batch_size": "training.per_device_train_batch_size",
    "num_epochs": "training.num_train_epochs", "epochs": "training.num_train_epochs",
    "total_steps": "training.max_steps", "num_steps": "training.max_steps", "num_train_steps": "training.max_steps",
    "bf16": "training.mixed_precision", "fp16": "training.mixed_precision", "tf32": "(torch's own default)",
    "eval_strategy": "training.eval_steps", "evaluation_strategy": "training.eval_steps",
    "save_strategy": "training.save_steps", "max_checkpoints": "training.save_total_limit",
    "packing": "training.layout", "padding_free": "training.layout", "eval_packing": "training.layout",
    "use_liger_kernel": "training.head_chunk", "data_seed": "training.seed",
    "max_eval_samples": "training.max_eval_rows", "early_stopping": "training.early_stopping_patience",
    "resume_from_checkpoint": "(`align train RECIPE --resume`)", "deepspeed": "(launch/accelerate says where)",
    "fsdp": "(launch/accelerate says where)", "use_cpu": "(launch/accelerate says where)",
    "num_ppo_epochs": "rollout.num_iterations", "ppo_epochs": "rollout.num_iterations", "mu": "rollout.num_iterations",
    "steps_per_generation": "rollout.num_prompts", "generation_batch_size": "rollout.num_prompts",
    "num_mini_batches": "rollout.num_prompts where the policy writes, training.num_minibatches elsewhere",
    "num_minibatches": "training.num_minibatches", "rollout_batch_size": "rollout.num_prompts",
    "response_length": "rollout.max_completion_length",
    "group_size": "rollout.num_generations", "num_return_sequences": "rollout.num_generations",
    "mask_truncated_completions": "rollout.mask_truncated", "use_vllm": "rollout.engine",
    "vllm_mode": "rollout.engine", "vllm_server_host": "rollout.vllm_server_base_url",
    "vllm_server_port": "rollout.vllm_server_base_url", "vllm_gpu_memory_utilization": "rollout.vllm_arguments",
    "vllm_tensor_parallel_size": "rollout.vllm_arguments", "vllm_max_model_length": "rollout.vllm_arguments",
    "missing_eos_penalty": "reward.shape", "reward_clip_range": "reward.shape", "whiten_rewards": "reward.shape",
    "reward_funcs": "reward.functions", "reward_functions": "reward.functions", "reward_weights": "reward.functions",
    "reward_model_path": "reward.functions", "reward_model": "reward.functions",
    "run_name": "name", "logging_strategy": "logging.logging_steps",
    "max_seq_length": "data.max_length", "max_seq_len": "data.max_length",
    "cutoff_len": "data.max_length", "truncation_mode": "data.overlong",
    "completion_only_loss": "data.loss_on", "assistant_only_loss": "data.loss_on", "train_on_inputs": "data.loss_on",
    "dataset": "data.train", "dataset_name": "data.train", "dataset_path": "data.train", "train_file": "data.train",
    "train_dataset": "data.train", "eval_dataset": "data.validation", "validation_file": "data.validation",
    "eval": "data.validation", "valid": "data.validation", "val": "data.validation",
    "validation_split": "data.validation",
    "dataset_text_field": "data.columns", "column_mapping": "data.columns", "max_samples": "data.num_rows",
    "dataset_num_proc": "(the data is prepared once and cached)", "template": "data.chat_template",
    "chat_template_path": "data.chat_template",
    "model_name": "model.model_name_or_path", "model_path": "model.model_name_or_path",
    "path": "model.model_name_or_path",
    "base_model": "model.model_name_or_path", "tokenizer": "model.tokenizer_name_or_path",
    "tokenizer_name": "model.tokenizer_name_or_path", "torch_dtype": "model.dtype",
    "attn_impl": "model.attn_implementation", "use_peft": "model.lora", "peft": "model.lora",
    "peft_config": "model.lora",
    "lora_r": "model.lora.r", "lora_rank": "model.lora.r", "rank": "model.lora.r", "alpha": "model.lora.lora_alpha",
    "dropout": "model.lora.lora_dropout", "lora_target_modules": "model.lora.target_modules", "use_lora": "model.lora",
    "ref_model": "model.ref_model_name_or_path", "reference_model": "model.ref_model_name_or_path",
    "precompute_ref_log_probs": "model.reference", "load_in_4bit": "(quantised weights are not trained here)",
    "load_in_8bit": "(quantised weights are not trained here)", "tracking": "logging.report_to",
    "max_new_tokens": "rollout.max_completion_length where the policy writes, logging.max_completion_length elsewhere",
}  # fmt: skip

SECTIONS = {
    "dataset": "data", "datasets": "data", "trainer": "training", "train": "training", "optimizer": "optim",
    "optimiser": "optim", "log": "logging", "models": "model", "loss": "method", "algorithm": "method",
}  # fmt: skip


def translate_knob(word: str, knobs: Iterable[str], methods: Iterable[str]) -> str:
    """` Here clip_range.` for a foreign knob that this method has; why not, where it has none; else an empty string."""
    if word == "loss_type":
        return " Here every loss is a method of its own: set method.name."
    if word in ("label_smoothing", *(w for w, ours in KNOBS.items() if ours == "label_smoothing")):
        others = [m for m in ("cdpo", "robust") if m in methods]
        if not any(k == "label_smoothing" for k in knobs) and others:
            return f" Wrong labels are modelled by the methods {' and '.join(others)}."
    ours = KNOBS.get(word)
    if ours is None:
        return ""
    return f" {word}: here `{ours}`." if ours in set(knobs) else ""


def translate_key(word: str) -> str:
    """` Here optim.learning_rate.` for a foreign word, else an empty string."""
    ours = KEYS.get(word, "")
    if ours.startswith("("):
        return f" Here: {ours[1:-1]}."
    return f" {word}: here `{ours}`." if ours else ""
