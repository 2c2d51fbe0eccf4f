"""The optimiser, its schedule and its warm-up."""

from __future__ import annotations

from typing import Any

from align.translate.draft import Draft, is_off

NAMES = {  # transformers' names of what torch has
    "adamw_torch": "AdamW", "adamw_torch_fused": "AdamW", "adamw_hf": "AdamW", "adamw": "AdamW", "adam": "Adam",
    "sgd": "SGD", "rmsprop": "RMSprop", "adagrad": "Adagrad", "adafactor": "Adafactor",
}  # fmt: skip
EIGHT_BIT = {  # of bitsandbytes; a GPU's memory is not paged here, which changes no number
    "adamw_8bit": "AdamW8bit", "adamw_bnb_8bit": "AdamW8bit", "paged_adamw_8bit": "AdamW8bit",
    "lion_8bit": "Lion8bit", "paged_lion_8bit": "Lion8bit", "paged_adamw_32bit": "AdamW", "paged_adamw": "AdamW",
}  # fmt: skip
FLOOR = 0.1  # of OpenRLHF's schedule, times the learning rate


def optimiser(draft: Draft) -> None:
    name = str(draft.get("optim"))
    if name in NAMES:
        extra = {"scale_parameter": False, "relative_step": False} if name == "adafactor" else {}
        draft.put("optim.optim", NAMES[name], "optim")
        if extra:
            draft.put("optim.optim_args", extra, "optim", note="a rate of its own, as transformers has it")
    elif name in EIGHT_BIT:
        paged = ["nothing is paged, which changes no number"] if "paged" in name else []
        whole = ["of embeddings, too"] if "8bit" in name else []
        draft.put("optim.optim", EIGHT_BIT[name], "optim", note="; ".join([*paged, *whole]))
    else:
        draft.refuse("optim", "there are torch's optimisers, Adafactor, AdamW8bit and Lion8bit; AdamW comes nearest")
        draft.put("optim.optim", "AdamW")
    if "Adam" not in draft.recipe["optim.optim"]:
        for word in ("adam_beta1", "adam_beta2", "adam_epsilon"):
            draft.assume(word, None)
            draft.no_meaning(word, "of Adam alone")
    _arguments(draft)
    _schedule(draft)
    _warmup(draft)


def _arguments(draft: Draft) -> None:
    if is_off(found := draft.get("optim_args")):
        draft.already("optim_args", "no further arguments")
        return
    pairs: dict[str, Any] = found if isinstance(found, dict) else _pairs(str(found))
    draft.put("optim.optim_args", draft.recipe.get("optim.optim_args", {}) | pairs, "optim_args")


def _pairs(text: str) -> dict[str, Any]:
    """`a=1,b=2`, as transformers has them."""
    return {k.strip(): _number(v) for k, _, v in (pair.partition("=") for pair in text.split(",")) if k.strip()}


def _number(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text.strip()


def _schedule(draft: Draft) -> None:
    name, given = str(draft.get("lr_scheduler_type")), draft.get("lr_scheduler_kwargs") or {}
    arguments: dict[str, Any] = _pairs(given) if isinstance(given, str) else dict(given)
    if (ratio := draft.get("cosine_min_lr_ratio")) is not None:
        name, arguments = "cosine_with_min_lr", {"min_lr_rate": ratio}
    if name == "cosine_with_min_lr" and not arguments and draft.words.project == "OpenRLHF":
        arguments = {"min_lr_rate": FLOOR}
    draft.put("optim.lr_scheduler_type", name, "lr_scheduler_type")
    if arguments:
        draft.put("optim.lr_scheduler_kwargs", arguments, "lr_scheduler_kwargs", "cosine_min_lr_ratio")


def _warmup(draft: Draft) -> None:
    """transformers takes `warmup_steps` below 1 for a share; steps have the last word where there are both."""
    steps, ratio = draft.get("warmup_steps") or 0, draft.get("warmup_ratio") or 0
    if not steps and not ratio and draft.words.project == "axolotl" and not draft.says("warmup_steps"):
        draft.put("optim.warmup_ratio", 0.03, note="axolotl warms up so, by 100 steps at most")
    elif draft.recipe["optim.lr_scheduler_type"] == "constant":
        draft.no_meaning("warmup_steps", "the schedule constant has no warm-up")
        draft.no_meaning("warmup_ratio", "the schedule constant has no warm-up")
    elif 0 < steps < 1 or not steps:
        draft.put("optim.warmup_ratio", float(steps or ratio), "warmup_steps", "warmup_ratio")
    else:
        draft.put("optim.warmup_steps", int(steps), "warmup_steps")
        draft.no_meaning("warmup_ratio", "warmup_steps has the last word")
