"""From a config, or a command line, to a draft: whose it is, what its words are, the rules, what is left."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from align.translate.command import Command
from align.translate.draft import Draft, Launch
from align.translate.origin import Origin
from align.translate.plain import plain
from align.translate.rules import axolotl, llama_factory, openrlhf
from align.translate.rules.batch import batch
from align.translate.rules.course import course
from align.translate.rules.method import method
from align.translate.rules.model import model
from align.translate.rules.optimiser import optimiser
from align.translate.rules.rewards import rewards
from align.translate.rules.rows import rows
from align.translate.rules.writing import writing
from align.translate.words import words_of

Rule = Callable[[Draft], None]
SHARDINGS = ("zero3", "zero2", "zero1", "fsdp2", "ddp", "one_gpu")  # files of launch/accelerate
WHILE_WRITING = ("grpo", "rloo", "ppo")


@dataclass(frozen=True)
class Original:
    """What is to be translated."""

    values: dict[str, Any]
    origin: Origin
    command: Command = field(default_factory=Command)
    processes: int = 0  # said by the user
    folder: Path = Path()


def translate(original: Original) -> Draft:
    """Everything of the original, accounted for. UserError where no recipe can be made of it at all."""
    words = copy.deepcopy(words_of(original.origin.project, original.origin.trainer))
    draft = Draft(words, dict(original.values), launch=_launch(original), folder=original.folder)
    for rule in _rules(original.origin):
        rule(draft)
    plain(draft)
    return draft


def _rules(origin: Origin) -> tuple[Rule, ...]:
    own: Mapping[str, tuple[Rule, ...]] = {
        "axolotl": (axolotl.kind, batch, axolotl.weights, axolotl.data, optimiser, axolotl.run),
        "openrlhf": (openrlhf.kind, openrlhf.batch, openrlhf.weights, openrlhf.data, optimiser, openrlhf.run),
        "llama_factory": (
            llama_factory.kind, *(() if origin.trainer == "ppo" else (batch,)), llama_factory.weights,
            llama_factory.data, optimiser, course,
        ),
    }  # fmt: skip
    if origin.project in own:
        return own[origin.project]
    step = (writing, rewards) if origin.trainer in WHILE_WRITING else (batch,)
    return (method, course, *step, model, rows, optimiser) if origin.trainer == "ppo" else (
        method, *step, model, rows, optimiser, course
    )  # fmt: skip


def _launch(original: Original) -> Launch:
    """By the command's own launcher, the files that it names, and what a config says of them."""
    told = [*original.command.launcher.values(), *original.command.names]
    told += [str(original.values.get(key) or "") for key in ("deepspeed",)]
    stage = original.values.get("zero_stage")
    text = " ".join(told).lower().replace("_", "")
    sharding = f"zero{stage}" if stage in (1, 2, 3) else next((s for s in SHARDINGS if s in text), "")
    if not sharding and (original.values.get("fsdp") or "fsdp" in text):
        sharding = "fsdp2"
    if not sharding and ("deepspeed" in text or "z3" in text):
        sharding = "zero3" if "z3" in text else "zero2"
    said = original.values.get("num_processes")
    processes = original.processes or original.command.processes or (said if isinstance(said, int) else 0)
    nodes = 1 if original.processes else original.command.nodes
    return Launch(processes=processes, nodes=nodes, sharding=sharding)
