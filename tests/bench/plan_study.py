"""What `align plan` foresees of a rank's memory, beside what runs on the CPU have held at most.

    python -m tests.bench.plan_study [--folder FOLDER] [--minutes M] [--only NAME]

A cell is a process. It makes a run of a very small model first, so that all libraries are there, and then three steps
of one of ten million weights; what counts is the peak of the second run above what the process held before it. Rows all
have one length, and micro-batches are full. A cell that has ended is kept in the summary beside this file, and not made
again; the table goes to launch/README.md.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.bench.cases import REPOSITORY
from tests.bench.own_process import ALONE, settle, train

SUMMARY = Path(__file__).parent / "plan_study.json"
PAGE = REPOSITORY / "launch" / "README.md"
MARKS = ("<!-- plan_study -->\n", "<!-- /plan_study -->\n")
BAND = 0.2  # of what was measured
LENGTH = 128  # tokens of a row
SMALL = (
    "{model_type: llama, hidden_size: 32, intermediate_size: 64, num_hidden_layers: 2, num_attention_heads: 4, "
    "num_key_value_heads: 2, vocab_size: 512}"
)
LARGE = (
    "{model_type: llama, hidden_size: 256, intermediate_size: 1024, num_hidden_layers: 6, num_attention_heads: 4, "
    "num_key_value_heads: 4, vocab_size: 8192}"
)
COMMON = (
    "model.model_name_or_path=null", "model.tokenizer_name_or_path=asset:stories260k", "data.validation=0",
    "data.test=0", "data.columns=null", "training.num_train_epochs=null", "training.max_steps=3",
    "training.eval_steps=0", "training.save_steps=0", "training.load_best_model_at_end=false",
    "logging.num_completions=0", "training.max_tokens=1024",
)  # fmt: skip
OFFLINE = (f"data.max_length={LENGTH}",)
METHODS = {  # micro-batches of 1024 tokens, two in a step
    "sft": (*OFFLINE, "training.batch_size=16"),
    "dpo": (*OFFLINE, "training.batch_size=8"),
    "ppo": (
        "data.max_length=32", "rollout.max_completion_length=96", "rollout.num_generations=4", "rollout.num_prompts=4",
        "rollout.num_iterations=1", "training.batch_size=4", "model.critic={learning_rate: 1e-4}",
    ),
}  # fmt: skip
VARIANTS = {
    "as it is": (),
    "lora": ("model.lora={r: 16}",),
    "gradient checkpointing": ("training.gradient_checkpointing=true",),
    "micro-batches of 512 tokens": ("training.max_tokens=512",),
    "bf16": ("training.mixed_precision=bf16",),
}
Cell = tuple[str, str]


def all_cells() -> list[Cell]:
    return list(itertools.product(METHODS, VARIANTS))


def words_of(cell: Cell, rows: Path) -> list[str]:
    method, variant = cell
    return [*COMMON, f"data.train={rows}", *METHODS[method], *VARIANTS[variant]]


def write_rows(path: Path, method: str) -> None:
    """Each a prompt of 31 tokens, behind the one that begins it, and a completion of 95, before the one that ends it;
    no two alike."""
    orders = itertools.islice(itertools.product(("the", "and", "was"), repeat=4), 64)
    with path.open("w", encoding="utf-8") as file:
        for order in orders:
            prompt = " ".join([*order, *["the"] * 27])
            row = {"prompt": prompt, "completion": " the" * 95, "chosen": " the" * 95, "rejected": " and" * 95}
            kept = {"sft": ("prompt", "completion"), "dpo": ("prompt", "chosen", "rejected"), "ppo": ("prompt",)}
            file.write(json.dumps({key: row[key] for key in kept[method]}) + "\n")


# ---- a cell, in a process of its own --------------------------------------------------------------------------------


def status(key: str) -> int:
    """Bytes, as the kernel counts them of this process."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


def measure(cell: Cell, folder: Path) -> dict[str, Any]:
    settle()
    foreseen = foreseen_now(cell, folder)
    words = words_of(cell, folder / "rows.jsonl")
    train(cell[0], folder / "small", *words, f"model.config={SMALL}")
    held = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak begins anew
    train(cell[0], folder / "large", *words, f"model.config={LARGE}")
    measured = status("VmHWM") - held
    last = (folder / "large/metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1]
    told = {"method": cell[0], "variant": cell[1], "measured": measured, "tokens": json.loads(last)["num_tokens"]}
    return told | foreseen


def foresee(recipe: str, words: list[str]) -> dict[str, Any]:
    from align.plan.peak import memory
    from align.plan.sharding import SHARDINGS
    from align.plan.work import Asked, work_of
    from align.recipe.load import load_recipe

    work = work_of(load_recipe(recipe, words), Asked(gpu=False))
    assert work is not None
    found = memory(work, SHARDINGS["ddp"])
    return {"foreseen": round(found.peak), "phase": found.phase}


def run(cell: Cell, folder: Path) -> dict[str, Any]:
    """What a process says of this cell. Memory that is freed goes back at once, so that its peak is what was held."""
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "-m", "tests.bench.plan_study", "--folder", str(folder), "--cell", *cell]
    at_once = {"MALLOC_MMAP_THRESHOLD_": str(2**18), "MALLOC_TRIM_THRESHOLD_": str(2**18)}
    done = subprocess.run(
        command, cwd=REPOSITORY, env=os.environ | ALONE | at_once, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{cell}: {done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


# ---- all cells ------------------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description="Memory as foreseen, and as measured.")
    parser.add_argument("--folder", type=Path, default=REPOSITORY / "runs" / "study_plan")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="no further cell is begun after so long")
    parser.add_argument("--cell", nargs=2, metavar=("METHOD", "VARIANT"), help="this one alone, in this process")
    given = parser.parse_args()
    if given.cell:
        print(json.dumps(measure(tuple(given.cell), given.folder)))
        return
    end, done = time.monotonic() + 60 * given.minutes, {key(c) for c in read()}
    for cell in all_cells():
        if cell not in done and time.monotonic() < end:
            write([*read(), run(cell, given.folder.absolute() / "-".join(cell).replace(" ", "_"))])
    write([cell | foreseen_now(key(cell), given.folder) for cell in read()])  # by the arithmetic of now


def foreseen_now(cell: Cell, folder: Path) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    rows = folder / "rows.jsonl"
    write_rows(rows, cell[0])
    return foresee(cell[0], [*words_of(cell, rows), f"model.config={LARGE}"])


def key(cell: dict[str, Any]) -> Cell:
    return cell["method"], cell["variant"]


def read() -> list[dict[str, Any]]:
    return json.loads(SUMMARY.read_text(encoding="utf-8")) if SUMMARY.exists() else []


def write(cells: list[dict[str, Any]]) -> None:
    """The summary and the table, after every cell: what is cut later has lost nothing."""
    cells = sorted(cells, key=lambda c: all_cells().index(key(c)))
    SUMMARY.write_text("[\n " + ",\n ".join(json.dumps(c) for c in cells) + "\n]\n", encoding="utf-8")
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(MARKS[0])
    PAGE.write_text(before + MARKS[0] + table(cells) + MARKS[1] + rest.partition(MARKS[1])[2], encoding="utf-8")


def table(cells: list[dict[str, Any]]) -> str:
    head = "| method | | foreseen (MB) | measured (MB) | foreseen / measured | at its most in |\n"
    return head + "|---|---|---|---|---|---|\n" + "".join(
        f"| `{c['method']}` | {c['variant']} | {c['foreseen'] / 1e6:.0f} | {c['measured'] / 1e6:.0f} | "
        f"{c['foreseen'] / c['measured']:.2f} | {c['phase']} |\n"
        for c in cells
    )


if __name__ == "__main__":
    main()
