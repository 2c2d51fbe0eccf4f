"""What is told of an experience: rewards, lengths, divergence, and how much of it is learned from."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from align.functional.advantages import explained_variance
from align.functional.kl import k1, k3
from align.functional.masked import masked_sum
from align.rewards.verdicts import RewardFunctions
from align.rollout.engine import StopReason
from align.rollout.writer import Trajectory
from align.sources.harvest import Harvest, Harvester
from align.training.evaluate import Evaluation, ratio


def experience_metrics(harvest: Harvest, written: Sequence[Trajectory], harvester: Harvester) -> dict[str, float]:
    """One number each, for metrics.jsonl; auxiliary completions are counted and otherwise left out."""
    every = [t for t in written if not t.auxiliary]
    own = [t for t in every if t.done]
    rewards = harvest.rewards[torch.tensor([t.done and not t.auxiliary for t in written])]
    found = {
        "completions": float(len(own)),
        "written_tokens": float(sum(t.num_written for t in written)),
        "kept": harvest.kept.any(-1).sum().item() / (len(every) + sum(t.auxiliary for t in harvest.rows)),
    } | _equal_groups(harvest)
    if own:
        found |= reward_means(own, rewards, harvester.reward_functions) | {
            "completion_length": sum(len(t.tokens) for t in own) / len(own),
            "truncated": _share(t.stop == StopReason.LENGTH for t in own),
            "ended": _share(t.stop == StopReason.EOS for t in own),
        }
    if any(t.steps for t in every):
        found["steps_per_completion"] = sum(len(t.steps) for t in every) / len(every)
    if harvester.settings.window:
        found["unfinished"] = 1 - len(own) / len(every)
        found["begun_before"] = _share(t.given > 0 for t in every)
    if any(t.mask for t in own):
        found["environment_tokens"] = _share(not mine for t in own for mine in t.by_policy)
        found["over"] = _share(t.stop == StopReason.ENVIRONMENT for t in own)
    if auxiliary := [t for t in written if t.auxiliary]:
        found["auxiliary"] = float(len(auxiliary))
        found["auxiliary_tokens"] = float(sum(t.num_written for t in auxiliary))
    whole = harvest.whole
    completion = whole.batch.completion
    if "ref_logps" in vars(completion) and "ref" in harvester.roles:
        old = completion.sampler_logps if "old_logps" in whole.repeats else completion.old_logps
        d, learned = old - completion.ref_logps, completion.mask.any(-1)
        found["kl"] = masked_sum(k1(d), completion.mask)[learned].mean().item()
        found["kl_k3"] = masked_sum(k3(d), completion.mask)[learned].mean().item()
    if "old_values" in vars(completion):
        ended = completion.mask & whole.batch.ended[:, None]
        explained = explained_variance(completion.old_values, whole.batch.returns, ended)
        found |= {} if math.isnan(explained) else {"explained_variance": explained}
    return found


def reward_means(written: Sequence[Trajectory], rewards: Tensor, reward_functions: RewardFunctions) -> dict[str, float]:
    judged = rewards[~rewards.isnan()]
    spread = judged.std().item() if len(judged) > 1 else 0.0
    found = {"reward": judged.mean().item() if len(judged) else 0.0, "reward_std": spread}
    found["not_judged"] = 1 - len(judged) / max(len(rewards), 1)
    found["failed_rewards"] = _share(bool(t.failed) for t in written)
    for name in reward_functions.functions:
        values = [v for t in written if (v := t.rewards.get(name)) is not None]
        if values:
            found[f"rewards/{name}"] = sum(values) / len(values)
    return found


def held_out_rewards(written: Sequence[Trajectory], rewards: Tensor) -> Evaluation:
    """Means over prompts with their standard errors; what could not be judged is left out, and the reward where every
    function compares, since a prompt has one completion here."""
    names = list(dict.fromkeys(n for t in written for n in t.rewards))
    columns = {"reward": rewards} if names else {}
    columns["completion_length"] = torch.tensor([float(len(t.tokens)) for t in written])
    columns["truncated"] = torch.tensor([float(t.stop == StopReason.LENGTH) for t in written])
    for name in names:
        said = [t.rewards.get(name) for t in written]
        columns[f"rewards/{name}"] = torch.tensor([float("nan") if v is None else v for v in said])
    estimates = {n: ratio(v.nan_to_num().double(), (~v.isnan()).double()) for n, v in columns.items()}
    return Evaluation(estimates, {n: v.nan_to_num().tolist() for n, v in columns.items()})


def _equal_groups(harvest: Harvest) -> dict[str, float]:
    """Share of prompts whose completions all earned the same, from which comparisons learn nothing; of those prompts
    that have several which are judged, and nothing where none has, or where nothing is learned from rewards."""
    if not harvest.learns_from_rewards:
        return {}
    seen: dict[int, list[float]] = {}
    for t, reward in zip(harvest.rows, harvest.whole.batch.rewards.tolist(), strict=True):
        if t.done and not t.auxiliary:
            seen.setdefault(t.number, []).append(reward)
    several = [values for values in seen.values() if len(values) > 1]
    return {"equal_groups": _share(len(set(values)) == 1 for values in several)} if several else {}


def _share(flags: object) -> float:
    values = list(flags)  # type: ignore[call-overload]
    return sum(values) / max(len(values), 1)
