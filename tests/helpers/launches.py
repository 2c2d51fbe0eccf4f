"""Launches of two processes, and a driver that goes through many runs in one of them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

REPOSITORY = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
MODES = ("ddp", "zero2", "zero3")
LAUNCH_FILES = {"ddp": "cpu_2.yaml", "zero1": "zero2.yaml", "zero2": "zero2.yaml", "zero3": "zero3.yaml"}
TIMEOUT = 900  # seconds; a launch that hangs must not hang the suite

SHORT = (  # max_tokens cuts a step into micro-batches of which the ranks have unequal numbers
    "data.num_rows=60", "data.test=0.1", "data.validation=0.1", "training.num_train_epochs=null",
    "training.batch_size=7", "training.max_tokens=400", "training.eval_steps=5",
    "optim.lr_scheduler_type=linear", "optim.warmup_ratio=0.4",
    "optim.weight_decay=0.1", "logging.num_completions=0",
)  # fmt: skip


STEPS = 16
LONG = (  # the run that is killed and stopped on its way
    *SHORT, f"training.max_steps={STEPS}", "training.save_steps=3", "training.eval_steps=4",
    "training.save_total_limit=2", "data.test=0.0", "model.lora={r: 4, lora_alpha: 8}",
)  # fmt: skip


def job(name: str, recipe: str, steps: int, *overrides: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "recipe": recipe, "overrides": [*SHORT, f"training.max_steps={steps}", *overrides], **more}


SAVING = ("training.save_steps=2", "training.save_total_limit=9")
COMPLETING = ("logging.num_completions=2", "logging.max_completion_length=6")
LORA = ("model.lora={r: 4, lora_alpha: 8}", *SAVING, *COMPLETING)
FEWER = ("training.batch_size=1", "training.max_tokens=8192", "data.test=0.0")
KEEP_LAST = ("training.load_best_model_at_end=false", *SAVING)
MASTERS = ("model.dtype=bfloat16", "training.mixed_precision=no", "optim.masters=true", *KEEP_LAST)
MINIBATCHES = ("training.num_minibatches=3", *SAVING)  # whose second step is in the middle of an experience
TWO_LEVELS = ("method.trusted_rows=3", "training.load_best_model_at_end=true", *SAVING)
WRITTEN = (  # two experiences of four steps; micro-batches that cut the completions of a prompt apart
    "data.test=0.0", "data.max_length=64", "rollout.num_generations=3", "rollout.num_prompts=14",
    "rollout.num_iterations=2", "rollout.max_completion_length=8", "rollout.max_rows=9", "training.max_tokens=120",
    "training.eval_steps=4", "training.max_eval_rows=5", *SAVING,
)  # fmt: skip
ON_TRUNK = ("rollout.record=true", "model.critic=null")
COMMON = "settings: {words: [the, a, was, he, she, it, to, and, day, up], count: share}"
OWN_CRITIC = (  # and a reward that compares a prompt's completions, beside one that does not
    "rollout.record=true", "model.critic={learning_rate: 1.0e-3, warmup_steps: 2}",
    f"reward.functions=[{{name: contains, {COMMON}}}, {{name: win_rate, settings: {{scores: contains, {COMMON}}}}}]",
)  # fmt: skip
PLAYED = (  # an experience is half of a centre's time; opponents write in both, and evaluations are against a reference
    "method.form=two_step", "method.target_every=4", "rollout.record=true",
    f"reward.functions=[{{name: win_rate, settings: {{scores: contains, {COMMON}, scale: 0.1}}}}]",
)  # fmt: skip
REPLAYED = {  # methods that one process writes for, and two learn from what it has written
    "apa": ("model.critic=null",),
    "p3o": (),
    "vineppo": ("method.num_restarts=2",),
    # two rounds, of which the second begins ahead; a new Adam makes much of rounding, unless its epsilon is large
    "accelerated_po": ("optim.adam_epsilon=1e-3", f"reward.functions=[{{name: contains, {COMMON}}}]"),
}
JUMPING = "model.lora={r: 2, lora_alpha: 4}"
EXPERTS = (  # whose router loss is a product of means over the tokens of a whole step
    "model.model_name_or_path=null", "model.tokenizer_name_or_path=asset:stories260k",
    "model.config={model_type: mixtral, hidden_size: 32, intermediate_size: 32, num_hidden_layers: 2, "
    "num_attention_heads: 4, num_key_value_heads: 2, num_local_experts: 4, initializer_range: 0.2}",
    "model.router_aux_loss_coef=0.5",
)  # fmt: skip
TALKING = str(REPOSITORY / "tests" / "distributed" / "dialogues.yaml")
STEPS_OF = {
    "sft": 5,
    "reward_model": 5,
    "dpo": 5,
    "dpo_resumed": 5,
    "dpo_across": 5,
    "kto": 5,
    "masters": 4,
    "masters_resumed": 4,
    "dpo_cached": 5,
    "tgdpo": 3,
    "lora": 3,
    "fewer": 2,
    "experts": 3,
    "psft": 5,
    "scalebio": 5,
    "scalebio_resumed": 5,
    "scalebio_lora": 5,
    "nash_mp_replayed": 8,
    "opd": 4,
    "jumps_replayed": 8,
    "ppo": 8,
    **dict.fromkeys(REPLAYED, 6),
    "accelerated_po": 8,
}
JOBS = [
    job("sft", "sft", 5),
    job("reward_model", "reward_model", 5, *KEEP_LAST),
    job("dpo", "dpo", 5, *SAVING, *COMPLETING),
    job("kto", "kto", 5),
    job("dpo_resumed", "dpo", 5, *SAVING, *COMPLETING, resume_from=["dpo", 2]),
    job("reward_model_resumed", "reward_model", 5, *KEEP_LAST, resume_from=["reward_model", 4]),
    job("masters", "dpo", 4, *MASTERS),
    job("masters_resumed", "dpo", 4, *MASTERS, resume_from=["masters", 2]),
    job("dpo_cached", "dpo", 5, "model.reference=cached"),
    job("tgdpo", "tgdpo", 3),
    job("lora", "dpo", 3, *LORA),
    job("lora_resumed", "dpo", 3, *LORA, resume_from=["lora", 2]),
    job("fewer", "dpo", 2, *FEWER),
    job("experts", "sft", 3, *EXPERTS),
    job("psft", "psft", 5, *MINIBATCHES),
    job("psft_resumed", "psft", 5, *MINIBATCHES, resume_from=["psft", 2]),
    job("scalebio", "scalebio", 5, *TWO_LEVELS),
    job("scalebio_resumed", "scalebio", 5, *TWO_LEVELS, resume_from=["scalebio", 2]),
    job("ppo", "ppo", 8, *WRITTEN, *ON_TRUNK),
    job("ppo_resumed", "ppo", 8, *WRITTEN, *ON_TRUNK, resume_from=["ppo", 6]),
    job("critic", "ppo", 8, *WRITTEN, *OWN_CRITIC),
    job("critic_resumed", "ppo", 8, *WRITTEN, *OWN_CRITIC, resume_from=["critic", 6]),
    job("replayed", "ppo", 8, *WRITTEN, "model.critic=null", replay_of="ppo"),
    job("scalebio_lora", "scalebio", 5, *TWO_LEVELS, JUMPING),
    job("nash_mp", "nash_mp", 8, *WRITTEN, *PLAYED),
    job("nash_mp_resumed", "nash_mp", 8, *WRITTEN, *PLAYED, resume_from=["nash_mp", 6]),
    job("nash_mp_replayed", "nash_mp", 8, *WRITTEN, *PLAYED, "rollout.record=false", replay_of="nash_mp"),
    job("opd", "opd", 4, *WRITTEN, "training.max_steps=4"),
    job("jumps", "accelerated_po", 8, *WRITTEN, *REPLAYED["accelerated_po"], JUMPING, "rollout.record=true"),
    job("jumps_replayed", "accelerated_po", 8, *WRITTEN, *REPLAYED["accelerated_po"], JUMPING, replay_of="jumps"),
    job("jumps_resumed", "accelerated_po", 8, *WRITTEN, *REPLAYED["accelerated_po"], JUMPING,
        resume_from=["jumps_replayed", 6], replay_of="jumps"),
    job("dpo_offloaded", "dpo", 5, *SAVING, offload=["OPTIMIZER"]),
    job("dpo_offloaded_resumed", "dpo", 5, *SAVING, offload=["OPTIMIZER"], resume_from=["dpo_offloaded", 2]),
    job("lora_offloaded", "dpo", 3, *LORA, offload=["OPTIMIZER", "PARAM"]),
    job("lora_offloaded_resumed", "dpo", 3, *LORA, offload=["OPTIMIZER", "PARAM"], resume_from=["lora_offloaded", 2]),
    {"name": "moves", "moving": True},
    {"name": "methods", "methods": True},
    {"name": "large", "reading": True},
    job("dpo_across", "dpo", 5, *SAVING, *COMPLETING, across=["none", "dpo", 2]),
    job("lora_across", "dpo", 3, *LORA, across=["none", "lora", 2]),
    job("scalebio_across", "scalebio", 5, *TWO_LEVELS, across=["none", "scalebio", 2]),
    {"name": "long", "recipe": "dpo", "overrides": [*LONG]},
    {"name": "dialogues", "recipe": TALKING, "overrides": []},
    *(job(name, name, STEPS_OF[name], *WRITTEN, *words, "rollout.record=true") for name, words in REPLAYED.items()),
    *(
        job(f"{name}_replayed", name, STEPS_OF[name], *WRITTEN, *words, replay_of=name)
        for name, words in REPLAYED.items()
    ),
    job(
        "diverging", "sft", 4,
        "optim.learning_rate=1e30", "data.test=0.0", "data.validation=0.0", "training.eval_steps=0",
    ),
]  # fmt: skip
FSDP2 = [
    job(f"fsdp2_{name}", recipe, STEPS_OF[name], *words, sharding="fsdp2", **more) for name, recipe, words, more in (
        ("sft", "sft", (), {}),
        ("dpo", "dpo", (*SAVING, *COMPLETING), {}),
        ("dpo_resumed", "dpo", (*SAVING, *COMPLETING), {"resume_from": ["fsdp2_dpo", 2]}),
        ("dpo_across", "dpo", (*SAVING, *COMPLETING), {"across": ["none", "dpo", 2]}),
        ("masters", "dpo", MASTERS, {}),
        ("masters_resumed", "dpo", MASTERS, {"resume_from": ["fsdp2_masters", 2]}),
        ("dpo_cached", "dpo", ("model.reference=cached",), {}),
        ("lora", "dpo", LORA, {}),
        ("fewer", "dpo", FEWER, {}),
        ("experts", "sft", EXPERTS, {}),
        ("ppo", "ppo", (*WRITTEN, *ON_TRUNK), {}),
        ("scalebio", "scalebio", TWO_LEVELS, {}),
        ("scalebio_resumed", "scalebio", TWO_LEVELS, {"resume_from": ["fsdp2_scalebio", 2]}),
        ("nash_mp_replayed", "nash_mp", (*WRITTEN, *PLAYED, "rollout.record=false"), {"replay_of": "nash_mp"}),
        ("jumps_replayed", "accelerated_po",
         (*WRITTEN, *REPLAYED["accelerated_po"], JUMPING, "rollout.record=false"), {"replay_of": "jumps"}),
    )
]  # fmt: skip
ALSO_FSDP2 = [
    {"name": "fsdp2_moves", "moving": True, "sharding": "fsdp2"},
    {"name": "fsdp2_methods", "methods": True, "sharding": "fsdp2"},
    {"name": "fsdp2_large", "reading": True, "sharding": "fsdp2"},
]


ALSO = tuple(f"{name}_replayed" for name in REPLAYED)
GAMES = ("nash_mp", "nash_mp_resumed", "nash_mp_replayed")
ACROSS = ("dpo_across", "lora_across", "scalebio_across")
OFFLOADED = ("dpo_offloaded", "dpo_offloaded_resumed")
OF_WEIGHTS = ("lora_offloaded", "lora_offloaded_resumed")
JUMPS = ("jumps_replayed", "jumps_resumed")
LEFT_OUT = {  # the slowest launch: nothing of its own in them; one process: nobody kills it
    "zero3": (
        *OFFLOADED, "lora_across", "masters", "masters_resumed",
        "kto", "dpo_cached", "reward_model_resumed", "long", "dialogues", "jumps", "opd", *REPLAYED,
    ),
    "zero2": (
        "large", "scalebio_across", *OF_WEIGHTS,
        "dialogues", "tgdpo", "psft", "psft_resumed", "scalebio", "scalebio_resumed", "jumps", "opd", *GAMES[:2],
        *JUMPS, *REPLAYED, *ALSO,
    ),
    "ddp": ("large", *OFFLOADED, *OF_WEIGHTS, *REPLAYED, "nash_mp_resumed", "jumps", "scalebio_lora", *JUMPS),
    "none": ("large", *ACROSS, *OFFLOADED, *OF_WEIGHTS, "long", *GAMES[1:], *ALSO, *JUMPS),
}  # fmt: skip


def jobs_of(mode: str) -> list[dict[str, Any]]:
    if mode == "zero1":
        return [j for j in JOBS if j["name"] == "methods"]
    return [j for j in JOBS if j["name"] not in LEFT_OUT.get(mode, ())] + (FSDP2 + ALSO_FSDP2 if mode == "ddp" else [])


@dataclass(frozen=True)
class Launch:
    """The folder of a launch: a run folder for each job, and each rank's notes."""

    folder: Path
    size: int

    @cached_property
    def notes(self) -> list[dict[str, Any]]:
        return [json.loads((self.folder / f"notes-{rank}.json").read_text()) for rank in range(self.size)]

    def rows(self, name: str) -> list[dict[str, float]]:
        return [json.loads(line) for line in (self.folder / name / "metrics.jsonl").read_text().splitlines()]

    def weights(self, name: str) -> dict[str, torch.Tensor]:
        (file,) = (self.folder / name / "final").glob("*.safetensors")
        return load_file(file)


def environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ACCELERATE_", "DS_"))}
    path = os.pathsep.join([str(BIN), kept.get("PATH", "")])  # DeepSpeed looks for ninja
    quiet = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return kept | {"PATH": path, "PYTHONPATH": str(REPOSITORY)} | quiet | more


def launcher(mode: str) -> tuple[list[str], dict[str, str]]:
    """The words before the program, and the environment."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    file = REPOSITORY / "launch" / "accelerate" / LAUNCH_FILES[mode]
    words = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", "--config_file", str(file)]
    words += ["--num_processes", "2", "--main_process_port", port]
    words += ["--zero_stage", "1"] if mode == "zero1" else []
    return words, environment(**({"ACCELERATE_USE_CPU": "true"} if mode == "ddp" else {"DS_ACCELERATOR": "cpu"}))


def start(mode: str, folder: Path, jobs: list[dict[str, Any]]) -> None:
    """Executes the driver in two ranks."""
    words, env = launcher(mode)
    with open(folder / "log.txt", "w") as log:
        done = subprocess.run([*words, *driver(folder, jobs)], env=env, cwd=folder, stdout=log, stderr=log,
                              timeout=TIMEOUT)  # fmt: skip
    assert done.returncode == 0, left_by(folder)


def left_by(folder: Path) -> str:
    """What a launch that failed has said last, and where its ranks stood."""
    stacks = sorted(folder.glob("*/launch/attempt-*/stacks-*.txt"))
    told = (f"{path.relative_to(folder)}:\n{text}" for path in stacks if (text := path.read_text()))
    return "\n".join([(folder / "log.txt").read_text()[-8000:], *told])


def driver(folder: Path, jobs: list[dict[str, Any]]) -> tuple[str, str]:
    """The program of a launch, and the file of its jobs."""
    file = folder / "jobs.json"
    file.write_text(json.dumps(jobs))
    return str(REPOSITORY / "tests" / "distributed" / "driver.py"), str(file)


def rows(folder: Path) -> list[dict[str, float]]:
    """The whole lines of its metrics so far."""
    file = folder / "metrics.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]
