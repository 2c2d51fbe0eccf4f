"""Run folders with curves like those of training, made from a seed. They test the page, not the training."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import yaml

PROMPTS = [
    "Can you send me the report by tonight?",
    "Why was the parcel returned to us?",
    "Tell me how to reset the router.",
    "What time does the pharmacy close on Sundays?",
]


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def preference_steps(steps: int, seed: int, *, every: int = 20, skill: float = 2.2) -> list[dict[str, float]]:
    """Metrics of pairwise training: a margin that grows towards `skill`, everything else follows from it."""
    dice = random.Random(seed)
    lines: list[dict[str, float]] = []
    for step in range(1, steps + 1):
        done = step / steps
        margin = skill * (1 - math.exp(-4 * done)) + dice.gauss(0, 0.25)
        line = {
            "step": step,
            "loss": math.log1p(math.exp(-margin)) + dice.gauss(0, 0.03),
            "accuracy": min(
                1.0, max(0.0, round((0.5 + 0.4 * (1 - math.exp(-5 * done)) + dice.gauss(0, 0.08)) * 32) / 32)
            ),
            "margin": margin,
            "chosen_rewards": margin * 0.3 - 0.8 * done + dice.gauss(0, 0.1),
            "rejected_rewards": -margin * 0.7 - 0.8 * done + dice.gauss(0, 0.1),
            "chosen_logps": -42 - 6 * done + dice.gauss(0, 1),
            "rejected_logps": -45 - 22 * done + dice.gauss(0, 1),
            "learning_rate": 5e-4 * min(1.0, step / (0.1 * steps)) * (1 + math.cos(math.pi * done)) / 2,
            "grad_norm": 2.0 * math.exp(dice.gauss(0, 0.35)) * (1.2 - 0.7 * done),
            "tokens_per_second": 11_000 + dice.gauss(0, 400) - (4000 if step < 3 else 0),
            "memory_mb": 512.0 + min(step, 5) * 3,
            "epoch": done * 3,
        }
        if step % every == 0 or step == steps:
            held_out = 0.52 + 0.37 * (1 - math.exp(-5 * done)) + dice.gauss(0, 0.006)
            line |= {
                "eval/loss": math.log1p(math.exp(-0.8 * skill * (1 - math.exp(-4 * done)))) + dice.gauss(0, 0.004),
                "eval/loss_stderr": 0.021,
                "eval/accuracy": held_out,
                "eval/accuracy_stderr": math.sqrt(held_out * (1 - held_out) / 110),
                "eval/margin": 0.8 * skill * (1 - math.exp(-4 * done)),
                "eval/margin_stderr": 0.14,
            }
        lines.append(line)
    return lines


def sft_steps(steps: int, seed: int) -> list[dict[str, float]]:
    """Metrics of supervised training: no pairs, so no margin."""
    dice = random.Random(seed)
    lines: list[dict[str, float]] = []
    for step in range(1, steps + 1):
        done = step / steps
        loss = 1.6 + 1.5 * math.exp(-5 * done)
        line = {
            "step": step,
            "loss": loss + dice.gauss(0, 0.08),
            "token_accuracy": 0.6 - 0.1 * loss + dice.gauss(0, 0.01),
        }
        line |= {"entropy": loss * 0.9, "learning_rate": 1e-3 * (1 - done), "grad_norm": 1 + dice.random()}
        line |= {"tokens_per_second": 15_000 + dice.gauss(0, 300), "memory_mb": 480.0}
        if step % 30 == 0 or step == steps:
            line |= {"eval/loss": loss + 0.05, "eval/loss_stderr": 0.03, "eval/token_accuracy": 0.59 - 0.1 * loss}
            line |= {"eval/token_accuracy_stderr": 0.006}
        lines.append(line)
    return lines


def completions(seed: int) -> list[dict[str, Any]]:
    dice = random.Random(seed)
    early = [" the the little dog and and then the", " Once upon a time there was a girl who was named"]
    late = [" Of course, I will send it to you before eight. Thank you for your patience!", " I am sorry about that."]
    found: list[dict[str, Any]] = []
    for prompt in PROMPTS:
        for stage, texts, step, reason in (("before", early, 0, "length"), ("after", late, 120, "eos")):
            text = dice.choice(texts)
            line = {"prompt": prompt, "text": text, "stage": stage, "step": step, "stop_reason": reason}
            found.append(line | {"length": len(text) // 4})
    return found


def data_report(seed: int) -> dict[str, Any]:
    dice = random.Random(seed)
    prompt = [int(dice.lognormvariate(3.1, 0.4)) for _ in range(900)]
    completion = [int(dice.lognormvariate(3.4, 0.5)) for _ in range(900)]
    counts = [sum(low <= n < low + 8 for n in completion) for low in range(0, 160, 8)]
    return {
        "sources": [
            {"source": "asset:polite_pairs", "split": "train", "read": 898, "dropped": {"chosen equal to rejected": 6}},
            {"source": "asset:polite_pairs", "split": "validation", "read": 104, "dropped": {"overlong": 2}},
        ],
        "lengths": {"prompt": prompt, "completion": {"edges": list(range(0, 161, 8)), "counts": counts}},
    }


def recipe(method: str, **changes: Any) -> dict[str, Any]:
    sections: dict[str, Any] = {
        "method": {"name": method, "beta": 0.1},
        "model": {"model_name_or_path": "asset:stories260k", "lora": None},
        "data": {"train": "asset:polite_pairs", "validation": 0.1, "max_length": 512},
        "optim": {"learning_rate": 5e-4, "lr_scheduler_type": "cosine"},
        "training": {"seed": 0, "batch_size": 32, "num_train_epochs": 3.0, "output_dir": f"runs/{method}"},
    }
    for key, value in changes.items():
        section, _, name = key.partition("__")
        sections[section][name] = value
    return sections


def accuracy(value: float, n: int, seed: int) -> dict[str, Any]:
    """A measure with its per-row values."""
    dice = random.Random(seed)
    rows = [1] * round(value * n) + [0] * (n - round(value * n))
    dice.shuffle(rows)
    mean = sum(rows) / n
    return {"value": mean, "stderr": math.sqrt(mean * (1 - mean) / (n - 1)), "n": n, "rows": rows}


def write_run(folder: Path, method: str = "dpo", steps: int = 120, seed: int = 0, **changes: Any) -> Path:
    """A complete run folder; `section__key=value` changes its recipe."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = sft_steps(steps, seed) if method == "sft" else preference_steps(steps, seed)
    comment = "# every key, as it was used\n"
    text = comment + yaml.safe_dump(recipe(method, **changes), sort_keys=False)
    (folder / "recipe.yaml").write_text(text, encoding="utf-8")
    write_lines(folder / "metrics.jsonl", lines)
    write_lines(folder / "completions.jsonl", completions(seed))
    outcome = {"step": steps, "num_steps": steps, "ended_early": False, "final_step": steps}
    write_json(folder / "outcome.json", outcome)
    write_json(folder / "data.json", data_report(seed))
    versions = {"torch": "2.13.0", "transformers": "5.19.0"}
    write_json(
        folder / "environment.json", {"versions": versions, "world_size": 1, "git_commit": "1d61fc8", "gpus": []}
    )
    if method != "sft":
        before = {"accuracy": accuracy(0.52, 110, 7)}
        bag = {"bag_of_words_accuracy": accuracy(0.63, 110, 8)}
        test = {"accuracy": accuracy(0.89, 110, seed), "loss": {"value": 0.31, "stderr": 0.024, "n": 110}}
        write_json(folder / "test.json", {**test, "before": before, "baselines": bag})
    return folder


def write_pipeline(folder: Path) -> Path:
    for seed, method in enumerate(("sft", "reward_model", "dpo")):
        write_run(folder / method, method, seed=seed)
    reached = {
        f"{m}_accuracy": {"value": v, "stderr": 0.031, "n": 110} for m, v in (("reward_model", 0.88), ("dpo", 0.89))
    }
    write_json(folder / "summary.json", reached)
    return folder
