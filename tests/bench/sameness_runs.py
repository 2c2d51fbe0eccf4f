"""The runs by which two states of the code are compared: every method, and what a recipe can ask for beside it.

A run is words after a shipped recipe, four steps with a checkpoint in the middle of whatever lasts two. A word may hold
`{NAME}`, the folder of another run, which is then made first.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.online_study import hinted
from tests.helpers.small_runs import FRESH
from tests.helpers.tiny_models import config_of

CHECKPOINT = 3  # the step that a resumed run goes on from
STEPS = (
    "training.num_train_epochs=null", "training.max_steps=4", f"training.save_steps={CHECKPOINT}",
    "training.eval_steps=2", "training.max_eval_rows=4", "training.batch_size=4", "training.save_total_limit=9",
    "data.num_rows=30", "optim.learning_rate=3e-3",
)  # fmt: skip
SHOWN = ("logging.num_completions=2", "logging.max_completion_length=6")
WRITTEN = ("rollout.num_prompts=4", "rollout.num_iterations=2", "rollout.num_generations=3",
           "rollout.max_completion_length=8", "optim.learning_rate=3e-4")  # fmt: skip
CRITIC = "model.critic={learning_rate: 1e-3, warmup_steps: 1}"
VOWELS = ("reward.functions=[tests.bench.sameness_runs:vowels]",)
BEATEN = ("reward.functions=[{name: win_rate, settings: {scores: 'tests.bench.sameness_runs:vowels'}}]",)
STORIES = ("model.config={}", "model.model_name_or_path=asset:stories260k")
COMMON = "[the, a, was, to, she, he, it, and]"  # words of which a story's next few tokens hold some
STORY = (f"reward.functions=[{{name: contains, settings: {{words: {COMMON}, count: share}}}}]",)
THE = ("reward.functions=[{name: contains, settings: {words: [the]}}]",)  # which is often equal in a group
ALONE = ("rollout.num_generations=1",)
ONCE = ("rollout.num_iterations=1",)
LONG = ("rollout.num_prompts=8",)  # more than one minibatch
LORA = "model.lora={r: 4}"
STALE = ("rollout.staleness=1", "rollout.correction=truncate")


def fresh(config: dict[str, Any] = FRESH["config"]) -> tuple[str, ...]:
    """Words for weights that are drawn by the run itself."""
    return (
        "model.model_name_or_path=null",
        f"model.config={json.dumps(config)}",
        f"model.tokenizer_name_or_path={FRESH['tokenizer_name_or_path']}",
    )


BESIDE: dict[str, tuple[str, tuple[str, ...]]] = {  # name -> the method's run that it goes by, and further words
    "sft, lora": ("sft", ("model.lora={r: 4, lora_dropout: 0.1}",)),
    "sft, packed": ("sft", ("training.layout=packed", "training.max_tokens=300")),
    "sft, experts": ("sft", (*fresh({**config_of("mixtral"), "max_position_embeddings": 512}),
                             "model.router_aux_loss_coef=0.01")),
    "dpo, lora": ("dpo", (LORA,)),
    "dpo, cached": ("dpo", ("model.reference=cached",)),
    "dpo, another reference": ("dpo", ("model.config={}", "model.model_name_or_path={sft}",
                                       "model.ref_model_name_or_path={dft}")),
    "dpo, soup": ("dpo", ("model.config={}", "model.model_name_or_path={sft}",
                          "model.reference={soup: [{sft}, {dft}], weights: [0.75, 0.25]}")),
    "dpo, padded": ("dpo", ("training.layout=padded", "training.max_tokens=300", "training.head_chunk=7")),
    "dpo, bf16": ("dpo", ("training.mixed_precision=bf16", "training.gradient_checkpointing=true")),
    "dpo, best": ("dpo", ("training.load_best_model_at_end=true", "training.early_stopping_patience=1")),
    "reward_model, lora": ("reward_model", (LORA,)),
    "rloo, lora": ("rloo", (*STORIES, *STORY, LORA)),
    "rloo, stories": ("rloo", (*STORIES, *STORY)),
    "rloo, learned reward": ("rloo, stories", (
        "reward.functions=[{name: learned, settings: {model: '{reward_model}'}}]",
    )),
    "rloo, judged apart": ("rloo", ("reward.timeout=60", "reward.num_workers=1")),
    "rloo, stale": ("rloo", (*STALE, *ONCE, "rollout.correction_level=sequence")),
    "rloo, in minibatches": ("rloo", (*LONG, *ONCE)),
    "grpo, turns": ("grpo", (*STORIES, *STORY, "rollout.environment=tests.bench.sameness_runs:ask",
                             "rollout.max_turns=3", "rollout.stop_strings=['.', ',']",
                             "rollout.max_completion_length=32")),
    "grpo, stale": ("grpo", STALE),
    "dapo, refilled": ("dapo", (*STORIES, *THE)),
    "scaf_grpo, hinted": ("scaf_grpo", ("method.num_exempt=0",)),
    "loop, recorded": ("loop", (*LONG, *ONCE, "rollout.record=true")),
    "loop, replayed": ("loop", (*LONG, *ONCE, "rollout.replay={loop, recorded}")),
    "ppo, adaptive": ("ppo", (*LONG, "method.kl_target=3.0", "method.kl_horizon=50")),
    "ppo, on the trunk": ("ppo", ("model.critic=null",)),
    "spo, on the trunk": ("spo", ("model.critic=null",)),
    "ppo, audited": ("ppo", ("rollout.audit={num_states: 4, num_samples: 2, every: 2}",)),
    "ppo, stale": ("ppo", (*LONG, *ONCE, *STALE)),
}  # fmt: skip


@dataclass(frozen=True)
class Run:
    """`align train RECIPE WORDS`."""

    recipe: str
    words: tuple[str, ...]

    def after(self) -> list[str]:
        """Names of the runs whose folders it reads."""
        return [name for word in self.words for name in re.findall(r"\{([a-z_]+(?:, [a-z ]+)?)\}", word)]

    def placed(self, folder_of: Callable[[str], Path]) -> list[str]:
        """The words, with folders in the places of names."""
        words = list(self.words)
        for name in self.after():
            words = [word.replace(f"{{{name}}}", str(folder_of(name))) for word in words]
        return words


def ask(prompt: Any, text: str, columns: Any) -> str | None:
    """An environment: it asks on after the first turn."""
    return " Then what?" if "Then what?" not in text else None


def vowels(prompts: Any, completions: Sequence[str], **columns: Any) -> list[float]:
    """A reward that differs between any two texts of a model that knows nothing."""
    return [sum(c in "aeiou" for c in text) / max(len(text), 1) for text in completions]


def all_runs() -> dict[str, Run]:
    """By name: those of the methods under the methods' own."""
    from align.methods.base import method_names

    found = {name: Run(name, _of_method(name)) for name in method_names()}
    for name, (like, words) in BESIDE.items():
        found[name] = Run(found[like].recipe, (*found[like].words, *words))
    return found


def _of_method(name: str) -> tuple[str, ...]:
    from align.recipe.load import load_recipe
    from align.recipe.online import is_online

    recipe = load_recipe(name)
    shown = SHOWN if recipe.logging.num_completions else ()
    if not is_online(type(recipe.method)):
        return (*STEPS, *shown, *fresh())
    words = [*STEPS, *shown, *WRITTEN, *(() if recipe.rollout.num_generations > 1 else ALONE)]
    words += [CRITIC] if recipe.model.critic else []
    words += ["rollout.window=3"] if recipe.rollout.window else []
    if hinted(name) or recipe.rollout.steps != "newline":
        return tuple(words)  # hints and steps are of the recipe's own model and rows
    return (*words, *fresh(), *(BEATEN if type(recipe.method).plays else VOWELS))


def in_order(runs: dict[str, Run], wanted: Sequence[str]) -> list[str]:
    """The runs that are wanted, and before each those that it reads."""
    found: list[str] = []
    for name in wanted:
        found += [n for n in [*in_order(runs, runs[name].after()), name] if n not in found]
    return found
