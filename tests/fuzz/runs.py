"""Tiny runs of every method with options drawn at random, from copies of the shipped models and data."""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from small_runs import write_recipe

from align.assets import asset
from align.errors import UserError
from align.methods.base import method_names
from align.recipe.load import Recipe, load_recipe
from align.recipe.online import is_online

REWARD = '''
import time

def vowels(prompts, completions, **columns):
    """Slow enough to be killed in."""
    time.sleep(0.01)
    return [sum(c in "aeiou" for c in text) / max(len(text), 1) for text in completions]
'''
SMALL = (
    "training.num_train_epochs=null", "training.batch_size=4", "training.max_eval_rows=4", "data.num_rows=30",
    "logging.max_completion_length=6", "optim.learning_rate=1e-3",
)  # fmt: skip
WRITTEN = ("rollout.num_generations=2", "rollout.max_completion_length=6")


RECIPE = "run.yaml"
TRIES = 30


@dataclass(frozen=True)
class Run:
    """A recipe file in the case's folder, beside what it reads."""

    method: str

    def train(self, out: str, *more: str) -> list[str]:
        return ["train", RECIPE, f"training.output_dir={out}", *more]


def draw_run(draw: random.Random, folder: Path) -> Run:
    """Writes the recipe, the model, the rows and the reward of a drawn run into `folder`."""
    method = draw.choice(method_names())
    recipe = load_recipe(method)
    words = [*SMALL, *copies(recipe, folder)]
    online = is_online(type(recipe.method))
    if online:
        (folder / "slow_reward.py").write_text(REWARD)
        words += WRITTEN
    made = drawn(draw, recipe, words)
    if online:
        own: Any = "slow_reward:vowels"  # which only a run in that folder can import
        if recipe.method.wants_rates:
            own = {"name": "win_rate", "settings": {"scores": own}}
        made["reward"]["functions"] = [own]
    write_recipe(folder / RECIPE, made)
    return Run(method)


def drawn(draw: random.Random, recipe: Recipe, words: list[str]) -> dict[str, Any]:
    """The recipe with options that do not exclude each other."""
    options = of_rollouts if is_online(type(recipe.method)) else of_rows
    for _ in range(TRIES):
        try:
            made = load_recipe(recipe.method_name, [*words, *progress(draw), *options(draw, recipe)])
        except UserError as error:
            refusal = error
        else:
            return yaml.safe_load(made.to_yaml())
    raise refusal



def copies(recipe: Recipe, folder: Path) -> list[str]:
    """Of the model and the rows, which may be harmed."""
    model = folder / "model"
    shutil.copytree(asset(recipe.model.model_name_or_path), model)
    words = [f"model.model_name_or_path={model}"]
    for split in ("train", "trusted", "test"):
        source = getattr(recipe.data, split)
        files = [source] if isinstance(source, str) else [part.source for part in source]
        places = [folder / f"{split}{'-' * bool(n)}{n or ''}.jsonl" for n, file in enumerate(files) if file]
        for file, place in zip(files, places, strict=False):
            shutil.copyfile(asset(file), place)
        if places:
            several = f"[{', '.join(f'{{source: {place}}}' for place in places)}]"
            words.append(f"data.{split}={places[0] if isinstance(source, str) else several}")
    return words


def progress(draw: random.Random) -> list[str]:
    steps = draw.randint(4, 8)
    best = draw.random() < 0.4
    evaluated = draw.choice((0, 2, 3))
    return [
        f"training.max_steps={steps}", f"training.seed={draw.randint(0, 99)}",
        f"training.eval_steps={evaluated or (2 if best else 0)}", f"training.save_steps={draw.choice((1, 1, 2, 3))}",
        f"training.save_total_limit={draw.choice((1, 2, 9))}", f"training.load_best_model_at_end={str(best).lower()}",
        f"training.max_tokens={draw.choice((200, 600, 2048))}", f"logging.num_completions={draw.choice((0, 2))}",
        f"optim.lr_scheduler_type={draw.choice(('linear', 'constant', 'cosine'))}",
    ]  # fmt: skip


def of_rows(draw: random.Random, recipe: Recipe) -> list[str]:
    words: list[str] = []
    needs = recipe.method.needs()
    met = all(needs.live(member) for member in needs.members)  # none is made of other rows, which no cache holds
    if "ref" in needs.roles() and met and draw.random() < 0.4:
        words.append("model.reference=cached")
    if draw.random() < 0.25:
        words.append("model.lora={r: 4}")
        words = [w for w in words if "cached" not in w]
    return words


def of_rollouts(draw: random.Random, recipe: Recipe) -> list[str]:
    windowed = bool(recipe.rollout.window)
    words = [f"rollout.max_rows={draw.choice((3, 8, 64))}", f"rollout.record={draw.choice(('true', 'false'))}"]
    if windowed:
        words.append("rollout.window=3")
    iterations = 1 if windowed else draw.choice((1, 1, 2))
    words += [f"rollout.num_iterations={iterations}", f"rollout.num_prompts={draw.choice((4, 8))}"]
    if draw.random() < 0.3 and not windowed:
        words += ["rollout.staleness=1", "rollout.correction=truncate"]
    if draw.random() < 0.25:
        words += ["reward.timeout=20", "reward.num_workers=1"]
    return words
