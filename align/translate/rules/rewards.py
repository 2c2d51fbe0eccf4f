"""What a completion earns: functions by name, their weights, models, and what is done to the sum."""

from __future__ import annotations

from typing import Any

from align.translate.draft import Draft, is_off

Function = dict[str, Any]
ANSWER: Function = {"name": "math_answer", "settings": {"column": "solution"}}
THINKING: Function = {"name": "answer_format", "settings": {"pattern": "<think>(?!.*<think>)(.*?)</think>.*"}}
TAGS: Function = {
    "name": "answer_format",
    "settings": {"pattern": "<think>\\n.*?\\n</think>\\n<answer>\\n.*?\\n</answer>"},
}
MODEL = "<model>"  # no name of a function
KNOWN = {
    "accuracy": ANSWER, "accuracy_reward": ANSWER, "format": TAGS, "format_reward": TAGS,
    "think_format_reward": THINKING,
}  # fmt: skip


def rewards(draft: Draft) -> None:
    found: list[Any] = []
    if draft.words.trainer == "ppo":
        found += _of_ppo(draft)
    else:
        found += _functions(draft)
    draft.put("reward.functions", found, "reward_funcs", "reward_model_path")
    _shape(draft)


def _functions(draft: Draft) -> list[Any]:
    names = draft.get("reward_funcs") or []
    names = [names] if isinstance(names, str) else [str(name) for name in names]
    if model := draft.get("reward_model_name_or_path"):  # TRL's scripts have it before the functions
        names.insert(0, MODEL)
        draft.elsewhere("reward_model_name_or_path", "reward.functions: learned")
    weights = draft.get("reward_weights") or [1.0] * len(names)
    if len(weights) != len(names):
        draft.refuse("reward_weights", f"{len(weights)} weights of {len(names)} rewards: each has one")
        weights = [1.0] * len(names)
    found: list[Any] = []
    for name, weight in zip(names, weights, strict=True):
        if name == MODEL:
            one: Function = {"name": "learned", "settings": {"model": str(model)}}
        elif name in KNOWN:
            one = dict(KNOWN[name])
        elif "." in name or ":" in name:
            one = {"name": name if ":" in name else ":".join(name.rsplit(".", 1))}
        else:
            why = f"{name}: no such reward here; a function of yours with TRL's signature is named my_file:function"
            draft.refuse("reward_funcs", why)
            continue
        found.append(one if float(weight) == 1 else one | {"weight": float(weight)})
    if draft.says("reward_weights") and "reward_weights" not in draft.accounts:
        draft.elsewhere("reward_weights", "reward.functions, each with its weight")
    return [one["name"] if list(one) == ["name"] else one for one in found]


def _of_ppo(draft: Draft) -> list[Any]:
    """PPO's reward is a model, from which its critic begins."""
    model = draft.get("reward_model_path")
    if not model:
        return []
    if draft.words.project == "TRL":
        draft.put("model.critic.model_name_or_path", str(model), "reward_model_path")
        if draft.get("sft_model_path") and not draft.says("model_name_or_path"):
            draft.put("model.model_name_or_path", str(draft.get("sft_model_path")), "sft_model_path")
    return [{"name": "learned", "settings": {"model": str(model)}}]


def _shape(draft: Draft) -> None:
    shape: list[dict[str, Any]] = []
    if (span := draft.get("reward_clip_range")) is not None:
        shape.append({"clip": {"low": float(span[0]), "high": float(span[1])}})
    if not is_off(lost := draft.get("missing_eos_penalty")):
        shape.append({"missing_eos": {"subtract": float(lost)}})
    if draft.get("whiten_rewards"):
        why = "rewards of tokens are not whitened; reward.shape: [whiten: {}] does so with their sum"
        draft.refuse("whiten_rewards", why)
    else:
        draft.already("whiten_rewards", "not asked for")
    if shape:
        draft.put("reward.shape", shape, "reward_clip_range", "missing_eos_penalty")
