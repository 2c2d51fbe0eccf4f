"""What the policy writes, by which engine, and how the gap between that and the trainer is corrected."""

from __future__ import annotations

import math
from typing import Any

from align.errors import UserError
from align.translate.draft import Draft, is_off
from align.translate.rules.batch import BATCH, per_step, prompts

MODES = {  # TRL's modes of the correction: ours, and its level
    "token_truncate": ("truncate", "token"), "token_mask": ("mask", "token"),
    "sequence_truncate": ("truncate", "sequence"), "sequence_mask": ("mask", "sequence"),
}  # fmt: skip
SERVER = ("vllm_server_base_url", "vllm_server_host", "vllm_server_port", "vllm_server_timeout")
OPTIONS = {
    "vllm_gpu_memory_utilization": "gpu-memory-utilization", "vllm_max_model_length": "max-model-len",
    "vllm_tensor_parallel_size": "tensor-parallel-size",
}  # fmt: skip
CORRECTION = tuple(f"vllm_importance_sampling_{w}" for w in ("correction", "mode", "clip_max", "clip_min"))


def writing(draft: Draft) -> None:
    if draft.words.trainer == "ppo":
        _episodes(draft)
    else:
        prompts(draft)
        draft.put("rollout.max_completion_length", int(draft.get("max_completion_length")), "max_completion_length")
    if draft.get("mask_truncated_completions"):
        draft.put("rollout.mask_truncated", True, "mask_truncated_completions")
    else:
        draft.already("mask_truncated_completions", "completions that are cut are learned from")
    if draft.says("shuffle_dataset") and draft.get("shuffle_dataset") is False:
        draft.refuse("shuffle_dataset", "rows are shuffled, in every epoch anew")
    sampling(draft)
    engine(draft)


def sampling(draft: Draft) -> None:
    draft.put("rollout.temperature", float(draft.get("temperature", 1.0)), "temperature")
    top_k, top_p, min_p = int(draft.get("top_k") or 0), float(draft.get("top_p") or 1.0), float(draft.get("min_p") or 0)
    chosen: dict[str, Any] = {"top_k": max(top_k, 0), "top_p": top_p, "min_p": min_p}
    for name, off in (("top_k", 0), ("top_p", 1.0), ("min_p", 0.0)):
        if chosen[name] != off:
            draft.put(f"rollout.{name}", chosen[name], name)
            draft.put("rollout.biased_sampling", True, name, note="the gradient is not the sampler's, as it is there")
        else:
            draft.already(name, "all tokens are kept")


def engine(draft: Draft) -> None:
    if not draft.get("use_vllm"):
        draft.put("rollout.engine", "local", "use_vllm")
        for word in (*SERVER, *OPTIONS, *CORRECTION):
            draft.no_meaning(word, "the model in training writes")
        return
    draft.put("rollout.engine", "vllm", "use_vllm")
    base = draft.get("vllm_server_base_url")
    if base is None and (draft.says("vllm_server_host") or draft.get("vllm_mode") == "server"):
        base = f"http://{draft.get('vllm_server_host')}:{draft.get('vllm_server_port')}"
    if base:
        draft.put("rollout.vllm_server_base_url", str(base), *SERVER[:3])
        for word in OPTIONS:
            draft.no_meaning(word, "of a server that runs already")
    else:
        options = [f"--{ours}={draft.get(word)}" for word, ours in OPTIONS.items() if draft.get(word) is not None]
        draft.put("rollout.vllm_arguments", options, *OPTIONS)
        for word in SERVER[1:3]:
            draft.no_meaning(word, "the run starts its server")
    draft.put("rollout.vllm_server_timeout", float(draft.get(SERVER[3])), SERVER[3])
    _correction(draft)


def _correction(draft: Draft) -> None:
    on, mode, high, low = CORRECTION
    if not draft.get(on):
        for word in CORRECTION:
            draft.already(word, "no correction")
        return
    kind, level = MODES.get(str(draft.get(mode)), ("", ""))
    if not kind:
        draft.refuse(mode, f"there are {', '.join(MODES)}")
        return
    draft.put("rollout.correction", kind, on, mode)
    draft.put("rollout.correction_level", level, mode)
    draft.put("rollout.correction_high", float(draft.get(high)), high)
    if is_off(draft.get(low)):
        draft.already(low, "no lower bound")
    elif kind == "mask":
        draft.put("rollout.correction_low", float(draft.get(low)), low)
    else:
        draft.refuse(low, "a weight that is cut is cut from above alone")


def _episodes(draft: Draft) -> None:
    """PPO as TRL had it: minibatches divide what was written, epochs go over it again, and episodes end it."""
    parts, passes = int(draft.get("num_mini_batches", 1)), int(draft.get("num_ppo_epochs"))
    size = per_step(draft)
    draft.put("training.batch_size", size, *BATCH, note="one completion of each prompt")
    draft.put("rollout.num_generations", 1, note="one completion of each prompt")
    draft.put("rollout.num_prompts", size * parts, "num_mini_batches")
    draft.put("rollout.num_iterations", passes, "num_ppo_epochs")
    draft.put("rollout.max_completion_length", int(draft.get("response_length")), "response_length")
    if (episodes := draft.get("total_episodes")) is not None:
        steps = math.ceil(int(episodes) / (size * parts)) * parts * passes
        draft.recipe.pop("training.num_train_epochs", None)
        draft.put("training.max_steps", steps, "total_episodes", note=f"{episodes} completions")
    stop = draft.get("stop_token")
    if stop not in (None, "eos"):
        raise UserError(f"stop_token: {stop}; TRL has eos alone")
    draft.already("stop_token", "the end-of-sequence token")
    if draft.says("stop_token_id"):
        draft.refuse("stop_token_id", "rollout.stop_strings are texts")
