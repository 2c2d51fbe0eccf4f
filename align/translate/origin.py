"""Whose a config is, and for which trainer: by the command that it is for, by its keys, by the names in its path."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from align.errors import UserError, did_you_mean
from align.translate.words import PROJECTS, table, trainers, without, words_of

ENOUGH = 0.6  # share of keys that a project must know
SIGNS = {  # keys that one trainer of TRL's alone has, the surest before
    "kto": ("desirable_weight", "undesirable_weight"),
    "ppo": ("cliprange_value", "vf_coef", "num_ppo_epochs", "reward_model_path"),
    "reward": ("center_rewards_coefficient",),
    "grpo": ("reward_funcs", "num_generations", "scale_rewards", "epsilon_high"),
    "cpo": ("cpo_alpha", "simpo_gamma"),
    "sft": ("completion_only_loss", "assistant_only_loss", "packing", "max_seq_length", "dataset_text_field"),
    "dpo": ("precompute_ref_log_probs", "rpo_alpha", "ld_alpha", "max_prompt_length"),
}
LIKELY = {  # values of the keys that are a project's own
    "open_r1": ("open-r1", "open_r1"),
    "handbook": ("alignment-handbook",),
    "openrlhf": ("openrlhf",),
    "llama_factory": ("llamafactory", "llama-factory"),
    "axolotl": ("axolotl",),
}


@dataclass(frozen=True)
class Origin:
    """A table's name, and one of its trainers."""

    project: str
    trainer: str


@dataclass(frozen=True)
class Hints:
    """What is known beside the keys."""

    path: str = ""
    names: list[str] = field(default_factory=list)  # of the command: dpo.py, trl, dpo
    project: str = ""  # said by the user
    trainer: str = ""


def recognise(values: dict[str, Any], hints: Hints) -> Origin:
    """UserError where it is nobody's, or where the trainer cannot be told."""
    project = hints.project or whose(values, hints)
    if not project:
        known = ", ".join(table(name)["project"] for name in PROJECTS)
        raise UserError(f"is no config that is known here: {known}; name whose it is with --from")
    if project not in PROJECTS:
        raise UserError(f"--from {project}: there are {', '.join(PROJECTS)}.{did_you_mean(project, PROJECTS)}")
    trainer = hints.trainer or _trainer(project, values, hints)
    if trainer in without(project):
        raise UserError(f"{table(project)['project']}'s {trainer} has no method here: {without(project)[trainer]}")
    known = trainers(project)
    if trainer not in known:
        found = f"--trainer {trainer}: no such trainer" if trainer else "does not say which trainer it is for"
        raise UserError(f"{found}; name one with --trainer: {', '.join(known)}.{did_you_mean(trainer, known)}")
    return Origin(project, trainer)


def whose(values: dict[str, Any], hints: Hints | None = None) -> str:
    """The table that knows most of these keys; empty where none knows enough of them."""
    hints = hints or Hints()
    told = " ".join([hints.path, *hints.names, *(str(v) for v in values.values() if isinstance(v, str))]).lower()
    asked = [name for name in PROJECTS if any(sign in told for sign in LIKELY.get(name, ()))]
    counts = {name: _known(name, values) for name in PROJECTS}
    most = max(counts.values())
    best = [name for name in PROJECTS if counts[name] == most]
    if most < ENOUGH * max(1, len(values)):
        return asked[0] if asked and hints.names else ""
    near = [name for name in asked if counts[name] >= most - 1]  # a word of its own outweighs one key
    return (near or best)[0]


def _known(name: str, values: Iterable[str]) -> int:
    every = [words_of(name, t) for t in trainers(name)]
    return sum(any(key in words for words in every) for key in values)


def _trainer(project: str, values: dict[str, Any], hints: Hints) -> str:
    known = [*trainers(project), *without(project)]
    if project == "axolotl":
        return "reward" if values.get("reward_model") else str(values.get("rl") or "sft")
    if project == "llama_factory":
        return str(values.get("stage") or "sft")
    called = _among(" ".join(hints.names), known)
    if called:
        return called
    signed = [t for t, keys in SIGNS.items() if t in known and any(k in values for k in keys)]
    named = _among(" ".join([hints.path, *_texts(values)]), known)
    if named and (not signed or named in signed or named not in SIGNS):
        return named
    return signed[0] if signed else named


def _texts(values: dict[str, Any]) -> list[str]:
    return [str(values.get(key, "")) for key in ("output_dir", "hub_model_id", "run_name", "save_path")]


def _among(text: str, known: Iterable[str]) -> str:
    """The last of `known` that stands in the text as a word: recipes/zephyr/dpo/config.yaml is dpo's."""
    words = re.split(r"[^a-z0-9]+", text.lower())
    words += ["_".join(pair) for pair in pairwise(words)]
    return next((name for word in reversed(words) for name in known if word == name), "")

