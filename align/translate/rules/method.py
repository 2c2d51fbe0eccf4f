"""Which method it is, and its knobs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from align.errors import did_you_mean
from align.translate.draft import Draft

OF_DPO = {"sigmoid": "dpo", "hinge": "hinge", "ipo": "ipo", "robust": "robust"}
CLIPPED = {"grpo": "sequence_mean", "bnpo": "token_mean", "dapo": "token_mean"}  # losses of grpo: their mean


def not_here(loss: Any, known: Iterable[str]) -> str:
    """Why a loss is refused, and which of its project are read."""
    names = list(known)
    return f"this loss is not here; {', '.join(names)} are.{did_you_mean(str(loss), names)} All: `align methods`"


def method(draft: Draft) -> None:
    made = {
        "sft": _sft, "dpo": _dpo, "kto": _kto, "reward": _reward, "orpo": _orpo, "cpo": _cpo,
        "grpo": grpo, "rloo": rloo, "ppo": ppo,
    }  # fmt: skip
    made[draft.words.trainer](draft)


def knob(draft: Draft, name: str, word: str) -> None:
    if (value := draft.get(word)) is not None:
        draft.put(f"method.{name}", value, word)


def _sft(draft: Draft) -> None:
    loss = draft.get("loss_type", "nll")
    if loss == "dft":
        draft.put("method.name", "dft", "loss_type")
        return
    if loss not in ("nll", "chunked_nll"):
        draft.refuse("loss_type", not_here(loss, ("nll", "chunked_nll", "dft")))
    draft.put("method.name", "sft", "loss_type")
    draft.put("method.aggregation", "token_mean", note="a step's tokens count alike")


def _dpo(draft: Draft) -> None:
    losses = draft.get("loss_type", ["sigmoid"])
    losses = [losses] if isinstance(losses, str) else losses
    known = [loss for loss in losses if loss in OF_DPO]
    if len(losses) > 1 or not known:
        draft.refuse("loss_type", "a sum of losses is not here" if len(losses) > 1 else not_here(losses[0], OF_DPO))
        draft.put("method.name", OF_DPO.get(losses[0], "dpo"))
    elif known[0] == "sigmoid" and draft.get("label_smoothing") and draft.words.project != "TRL":
        draft.put("method.name", "cdpo", "loss_type", "label_smoothing")
    else:
        draft.put("method.name", OF_DPO[known[0]], "loss_type")
    draft.no_meaning("loss_weights", "one loss has no weight beside others")
    smoothed(draft)
    knob(draft, "beta", "beta")


def smoothed(draft: Draft) -> None:
    if draft.recipe["method.name"] in ("robust", "cdpo"):
        knob(draft, "label_smoothing", "label_smoothing")
    else:
        draft.no_meaning("label_smoothing", "of labels that may be wrong: the methods cdpo and robust")


def _kto(draft: Draft) -> None:
    if (loss := draft.get("loss_type")) != "kto":
        draft.refuse("loss_type", not_here(loss, ["kto"]))
    draft.put("method.name", "kto", "loss_type")
    for name in ("beta", "desirable_weight", "undesirable_weight"):
        knob(draft, name, name)


def _reward(draft: Draft) -> None:
    draft.put("method.name", "reward_model")
    draft.put("method.center_coef", draft.get("center_rewards_coefficient", 0.0), "center_rewards_coefficient")
    draft.put("method.label_smoothing", 0.0)


def _orpo(draft: Draft) -> None:
    draft.put("method.name", "orpo")
    draft.put("method.lam", draft.get("beta"), "beta", note="the likelihood beside it is of the completion alone")


def _cpo(draft: Draft) -> None:
    if draft.get("loss_type") != "simpo":
        draft.refuse("loss_type", "CPO's own losses are not here; simpo with cpo_alpha 0 is")
    if draft.get("cpo_alpha"):
        draft.refuse("cpo_alpha", draft.words.not_offered["cpo_alpha"])
    draft.put("method.name", "simpo", "loss_type")
    knob(draft, "beta", "beta")
    knob(draft, "gamma", "simpo_gamma")


# ---- where the policy writes -----------------------------------------------------------------------------------------


def grpo(draft: Draft) -> None:
    loss, level = draft.get("loss_type"), draft.get("importance_sampling_level", "token")
    if loss == "cispo":
        _cispo(draft)
    elif loss == "dr_grpo":
        _dr_grpo(draft)
    elif level == "sequence":
        _gspo(draft)
    else:
        _clipped(draft)
    if level not in ("token", "sequence"):
        draft.refuse("importance_sampling_level", "a ratio is of a token, or of a completion")
    _scaled(draft)
    delta = draft.get("off_policy_mask_threshold")
    if delta and draft.recipe["method.name"] != "grpo":
        draft.refuse("off_policy_mask_threshold", "grpo alone has it")


def _clipped(draft: Draft) -> None:
    loss = draft.get("loss_type")
    if loss not in CLIPPED:
        draft.refuse("loss_type", not_here(loss, (*CLIPPED, "dr_grpo", "cispo")))
    mean = CLIPPED.get(str(loss), "token_mean")
    draft.put("method.name", "grpo", "loss_type")
    draft.put("method.aggregation", mean, "loss_type", note="over the whole step" if loss == "bnpo" else "")
    draft.put("method.kl_coef", draft.get("beta"), "beta")
    draft.put("method.unbiased_kl", bool(draft.get("use_bias_correction_kl")), "use_bias_correction_kl")
    draft.put("method.clip_range", draft.get("epsilon"), "epsilon")
    if (high := draft.get("epsilon_high")) is not None and high != draft.get("epsilon"):
        draft.put("method.clip_high", high, "epsilon_high")
    draft.put("method.off_policy_delta", draft.get("off_policy_mask_threshold", 0.0), "off_policy_mask_threshold")


def _gspo(draft: Draft) -> None:
    if draft.get("loss_type") != "grpo":
        draft.refuse("loss_type", "gspo averages over completions, as the loss grpo does")
    draft.put("method.name", "gspo", "importance_sampling_level", "loss_type")
    draft.put("method.clip_low", draft.get("epsilon"), "epsilon")
    draft.put("method.clip_high", draft.get("epsilon_high", draft.get("epsilon")), "epsilon_high", "epsilon")
    _no_reference(draft)


def _dr_grpo(draft: Draft) -> None:
    draft.put("method.name", "dr_grpo", "loss_type")
    draft.put("method.clip_range", draft.get("epsilon"), "epsilon")
    if draft.get("epsilon_high", draft.get("epsilon")) != draft.get("epsilon"):
        draft.refuse("epsilon_high", "dr_grpo's ratio is clipped alike on both sides")
    _no_reference(draft)


def _cispo(draft: Draft) -> None:
    draft.put("method.name", "cispo", "loss_type")
    high = draft.get("epsilon_high", draft.get("epsilon"))
    draft.put("method.ratio_upper_bound", high, "epsilon_high", note="the largest ratio itself")
    draft.put("method.ratio_lower_bound", 0.0)
    draft.no_meaning("epsilon", "cispo bounds ratios from above alone")
    _no_reference(draft)


def _no_reference(draft: Draft) -> None:
    if draft.get("beta"):
        draft.refuse("beta", f"{draft.recipe['method.name']} has no KL to a reference; grpo has")
    else:
        draft.already("beta", "there is no KL to a reference")


def _scaled(draft: Draft) -> None:
    """Advantages divided by the spread of their group, or not."""
    scale, name = draft.get("scale_rewards", True), draft.recipe["method.name"]
    divided = scale in (True, "group")
    if divided != (name != "dr_grpo"):
        how = "divides by the spread of a group" if name != "dr_grpo" else "divides by nothing"
        draft.refuse("scale_rewards", f"{name} {how}; dr_grpo is what does not, grpo what does")
    draft.elsewhere("scale_rewards", f"method.name: {name}")


def rloo(draft: Draft) -> None:
    draft.put("method.name", "rloo")
    draft.put("method.kl_coef", draft.get("beta"), "beta")
    draft.put("method.clip_range", draft.get("epsilon"), "epsilon")
    if draft.get("epsilon_high", draft.get("epsilon")) == draft.get("epsilon"):
        draft.already("epsilon_high", "clipped alike on both sides")


def ppo(draft: Draft) -> None:
    draft.put("method.name", "ppo")
    names: dict[str, Any] = {
        "kl_coef": "kl_coef", "kl_estimator": "kl_estimator", "clip_range": "cliprange",
        "value_clip": "cliprange_value", "value_coef": "vf_coef", "gamma": "gamma", "lam": "lam",
        "kl_target": "kl_target", "kl_horizon": "kl_horizon", "dual_clip": "dual_clip",
    }  # fmt: skip
    for ours, word in names.items():
        knob(draft, ours, word)
