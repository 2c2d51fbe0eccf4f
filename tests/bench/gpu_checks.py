"""What only a GPU can show, each in a minute: every method's step, attention's kernels, ranks, rollouts, resume.

    python -m tests.bench.gpu_checks CHECK FOLDER       methods, kernels, ranks, rollouts, resume

Prints what it found, and ends with 1 where something is not as it must be. Runs on a CPU too, to try it.

Two ranks: NCCL refuses two processes on one GPU, so two ranks share it over gloo, which carries CUDA's tensors through
the CPU; NCCL itself is tried with one rank.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from align.cli.main import main as align
from align.methods.base import method_names
from align.recipe.load import load_recipe
from align.recipe.online import is_online

TIMES = ("tokens_per_second", "memory_mb", "seconds_generate", "seconds_reward", "seconds_score", "seconds_audit")
RUN = (
    "training.num_train_epochs=null", "training.batch_size=8", "data.num_rows=100", "training.eval_steps=2",
    "training.max_eval_rows=8", "training.save_steps=2", "logging.num_completions=0",
)  # fmt: skip
WRITTEN = ("rollout.num_generations=4", "rollout.max_completion_length=24")
WIDE = (  # heads of 64 dimensions, which flex attention takes; its rows are longer than a block of 128
    "model.model_name_or_path=null", "model.tokenizer_name_or_path=asset:stories260k",
    "model.config={model_type: llama, hidden_size: 256, intermediate_size: 512, num_hidden_layers: 2, "
    "num_attention_heads: 4, num_key_value_heads: 2, max_position_embeddings: 2048, initializer_range: 0.1}",
)  # fmt: skip
EXACT = ("training.mixed_precision=no",)
CLOSE = 2e-3  # of a step's loss in float32 (its products may be rounded to TF32), relative
LAUNCH = 150 * int(os.environ.get("PATIENCE", "1"))  # seconds for a launch
ROUNDED = 0.15  # nats of a token's log-probability, between who writes and who learns under bfloat16


def train(out: Path, recipe: str, *words: str) -> float:
    """Seconds; the run's own words go to its log."""
    began = time.monotonic()
    code = align(["train", recipe, f"training.output_dir={out}", *words])
    assert code == 0, f"align train {recipe} {' '.join(words)}: {code}"
    return time.monotonic() - began


def lines(out: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rows]


def gap(one: Path, other: Path) -> float:
    """The largest difference of two runs' losses, relative to one that is not near 0 (as those of advantages are)."""
    pairs = zip(lines(one), lines(other), strict=True)
    return max(abs(a["loss"] - b["loss"]) / max(abs(a["loss"]), 0.1) for a, b in pairs)


def say(**figures: Any) -> None:
    print("FOUND", json.dumps(figures), flush=True)


def require(fits: bool, text: str) -> None:
    if not fits:
        print(f"WRONG {text}", flush=True)
    FAILED.extend([] if fits else [text])


FAILED: list[str] = []


# ---- the checks -----------------------------------------------------------------------------------------------------


def methods(folder: Path) -> None:
    """Two steps of every method as its recipe has them, in the precision that the GPU gets."""
    for name in method_names():
        recipe = load_recipe(name)
        words = [*RUN[:3], "training.max_steps=2", "training.eval_steps=0", "data.validation=0", "data.test=0"]
        words += ["logging.num_completions=0", "training.load_best_model_at_end=false"]
        if is_online(type(recipe.method)):
            words += [*WRITTEN, "rollout.num_iterations=1", "rollout.num_prompts=8"]
        words += ["rollout.window=6"] if recipe.rollout.window else []
        try:
            seconds = train(folder / name, name, *words)
        except (AssertionError, RuntimeError, TypeError, ValueError) as error:
            require(False, f"{name}: {type(error).__name__}: {str(error)[:300]}")
            continue
        row = lines(folder / name)[-1]
        say(method=name, seconds=round(seconds, 1), loss=row["loss"], sampler_gap=row.get("sampler_gap"))
        apart = row.get("sampler_gap", 0.0)
        require(apart < ROUNDED, f"{name}: sampler and trainer are {apart} apart")


def kernels(folder: Path) -> None:
    """The same steps with each attention kernel and layout."""
    words = (*RUN, *WIDE, *EXACT, "training.max_steps=3", "data.max_length=1024", "optim.learning_rate=1e-4")
    flex = "model.attn_implementation=flex_attention"
    plans = {
        "padded, sdpa": ("training.layout=padded", "model.attn_implementation=sdpa"),
        "packed, sdpa": ("training.layout=packed", "model.attn_implementation=sdpa"),
        "shared, sdpa": ("training.layout=shared", "model.attn_implementation=sdpa"),
        "auto, auto": (),
    }
    if torch.cuda.is_available():
        plans |= {f"{layout}, flex": (f"training.layout={layout}", flex) for layout in ("packed", "shared")}
    whole = folder / "padded, sdpa"
    for name, more in plans.items():
        seconds = train(folder / name, "dpo", *words, *more)
        difference = gap(folder / name, whole)
        say(kernel=name, seconds=round(seconds, 1), gap=difference)
        require(difference < CLOSE, f"{name}: losses are {difference:.1e} from those of padded rows under sdpa")


def ranks(folder: Path) -> None:
    """One process alone; one rank over NCCL (gloo on a CPU); two ranks that share the GPU, over gloo."""
    words = (*RUN, *EXACT, "training.max_steps=4", "optim.learning_rate=1e-4")
    for recipe, more in (("dpo", ()), ("grpo", (*WRITTEN, "rollout.temperature=1.0"))):
        alone = folder / f"{recipe}-alone"
        train(alone, recipe, *words, *more)
        for size, backend in ((1, "own"), (2, "gloo")):
            out = folder / f"{recipe}-{size}"
            launch(size, backend, ["train", recipe, f"training.output_dir={out}", *words, *more])
            difference = gap(out, alone)
            say(recipe=recipe, ranks=size, backend=backend, gap=difference)
            require(difference < CLOSE, f"{recipe}: {size} ranks: losses are {difference:.1e} from one process's")


def launch(size: int, backend: str, words: list[str]) -> None:
    """Processes as torchrun starts them."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tests.bench.gpu_checks", "rank", backend, *words]
    group = []
    for rank in range(size):
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_PORT": port}
        environment = os.environ | {"MASTER_ADDR": "localhost"} | {k: str(v) for k, v in place.items()}
        group.append(subprocess.Popen(command, env=environment))
    codes = [process.wait(LAUNCH) for process in group]
    require(codes == [0] * size, f"{size} ranks over {backend} ended with {codes}")


def be_rank(backend: str, words: list[str]) -> int:
    """`own`: what align takes; another: that one, although there is a GPU."""
    from align.world import distributed

    if backend != "own":
        kind = distributed.InitProcessGroupKwargs
        distributed.InitProcessGroupKwargs = lambda **asked: kind(**(asked | {"backend": backend}))
    return align(words)


def rollouts(folder: Path) -> None:
    """What the policy writes under bfloat16, at a size where a GPU has something to do."""
    size = (*RUN[:4], "training.max_steps=4", "logging.num_completions=0", "rollout.record=true")
    more = ("rollout.num_generations=16", "rollout.max_completion_length=128", "rollout.max_rows=256")
    for recipe, words in {
        "grpo": (*WIDE, "training.batch_size=16"),
        "ppo": ("rollout.num_prompts=16",),
        "vineppo": ("rollout.max_completion_length=8", "method.num_restarts=4"),
        "grpo, ahead": ("rollout.staleness=1", "rollout.correction=truncate"),
    }.items():
        out = folder / recipe
        name = recipe.partition(",")[0]
        train(out, name, *size, *(w for w in more if not any(w.split("=")[0] in x for x in words)), *words)
        told = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        speed = [row["tokens_per_second"] for row in told]
        apart = max(row.get("sampler_gap", 0.0) for row in told)
        say(rollouts=recipe, tokens_per_second=speed[-1], sampler_gap=apart, memory_mb=told[-1]["memory_mb"])
        require(apart < ROUNDED or "ahead" in recipe, f"{recipe}: sampler and trainer are {apart:.2g} apart")


def resume(folder: Path) -> None:
    """Gone on with from the middle, a run ends as the whole one: bitwise, where the kernels are."""
    for recipe, more in (("dpo", ()), ("grpo", WRITTEN), ("ppo", (*WRITTEN, "rollout.num_prompts=8"))):
        words = (*RUN, *more, "training.max_steps=6", "training.save_total_limit=9")
        whole, cut = folder / f"{recipe}-whole", folder / f"{recipe}-cut"
        train(whole, recipe, *words)
        train(cut, recipe, *words, "--resume", str(whole / "checkpoints/step-000004"))
        one, other = (load_file(out / "final/model.safetensors") for out in (whole, cut))
        largest = max((one[n].float() - other[n].float()).abs().max().item() for n in one)
        say(resumed=recipe, bitwise=largest == 0.0 and lines(whole) == lines(cut), weights_gap=largest)
        require(largest < 1e-4, f"{recipe}: resumed weights are {largest:.1e} apart")


CHECKS: dict[str, Callable[[Path], None]] = {
    "methods": methods, "kernels": kernels, "ranks": ranks, "rollouts": rollouts, "resume": resume,
}  # fmt: skip


def main() -> int:
    if sys.argv[1] == "rank":
        return be_rank(sys.argv[2], sys.argv[3:])
    folder = Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    where = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu"
    say(check=sys.argv[1], torch=torch.__version__, device=where)
    CHECKS[sys.argv[1]](folder)
    return int(bool(FAILED))


if __name__ == "__main__":
    from align.__main__ import leave

    leave(main())
