"""Every line of shell that the documents tell people to type, typed.

    make study-docs    (python -m tests.bench.docs_study [--folder FOLDER])

In the order in which they stand, in one folder, with a judge at 127.0.0.1:8000 and a hub on this machine. `TAKEN` says
what was taken for a word that stands for something of the reader's, `ADDED` what makes a line end sooner, or shows what
it would send to a cluster that is not here (tests/cluster sends it to one). Lines that have ended well are kept, so it
can be cut and begun again, and a line that was changed is typed alone. The summary beside this file is compared with
the documents by tests/docs/test_blocks.py: a line that nobody has typed fails there.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.bench.cases import REPOSITORY
from tests.helpers import fake_hub
from tests.helpers.doc_blocks import blocks, raw_lines
from tests.helpers.judging_server import longer, serving

SUMMARY = Path(__file__).parent / "docs_study.json"
PORT = 8000  # as the documents have it
MET, NOT_MET = 0, 3
TAKEN = {  # in a line -> what was typed
    "[KEY=VALUE]... ": "",
    "[": "",
    "]": "",
    "RECIPE": "dpo",
    "--allow-changes KEY": "--allow-changes optim",
    "RUN/rounds": "runs/accelerated_po/rounds",
    "RUN ": "runs/dpo ",
    "pipeline FILE": "pipeline stages.yaml",
    "--model-config FILE": "--model-config config.json",
    "http:MODEL": "http:judge-1",
    "#NAME": "#judge-1",
    "hub NAME": "hub us/polite-model",
    "/shared/sft-70b": "sft-70b",
    "config.yaml -o my.yaml": "config.yaml -o of_a_config.yaml",
    "train.sh -o my.yaml": "train.sh -o of_a_script.yaml",
    "-o my.yaml --": "-o of_a_line.yaml --",
}
KEPT = ("lora={r: 16}", "critic={learning_rate: 1e-6}", ".[deepspeed,eval]")  # with brackets of their own
ADDED = {  # what a line has in it -> what was typed after it
    "align train sft": "training.max_steps=2",
    "align train rloo": "training.max_steps=2",
    "align train dpo": "training.max_steps=2",
    "align train my.yaml": "training.max_steps=2",
    "align launch local": "training.max_steps=2",
    "align launch local RECIPE": "training.output_dir=runs/local",
    "align sweep": "training.max_steps=2",
    "align launch slurm": "--dry-run",
    "align-eval run humaneval": "limit=2",
}
BEFORE = (
    "align train reward_model training.max_steps=2 training.output_dir=runs/reward_model",
    "align train accelerated_po training.max_steps=16 training.output_dir=runs/accelerated_po",
)
PROMPTS = ("Name a tea.", "How long does tea draw?", "Green or black?", "Is tea older than coffee?")
CONFIG = """
model_name_or_path: Qwen/Qwen2-0.5B-Instruct
dataset_name: trl-lib/ultrafeedback_binarized
learning_rate: 5.0e-7
beta: 0.2
per_device_train_batch_size: 2
gradient_accumulation_steps: 8
output_dir: Qwen2-0.5B-DPO
"""
SCRIPT = "accelerate launch --num_processes 2 dpo.py --model_name_or_path Qwen/Qwen2-0.5B-Instruct --beta 0.2 \\\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Types every line of shell in the documents.")
    parser.add_argument("--folder", type=Path, default=REPOSITORY / "runs" / "study_docs")
    folder = parser.parse_args().folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    known = read()
    found: dict[str, dict[str, Any]] = {}
    with fake_hub.serving() as hub, serving(port=PORT, say=said):
        _prepare(folder, env := _environment(folder, hub.endpoint))
        for line in lines():
            done = known.get(line)
            kept = done is not None and done["typed"] == typed(line) and good(line, done["code"])
            found[line] = done if done is not None and kept else _type(line, folder, env)
            _write(found | {k: v for k, v in known.items() if k not in found})
    _write(found)
    bad = [line for line, done in found.items() if not good(line, done["code"])]
    print(f"{len(found)} lines, {len(bad)} of them ended otherwise than they should", *bad, sep="\n  ")
    sys.exit(bool(bad))


def lines() -> list[str]:
    """Each once."""
    shell = [*blocks("bash"), *(block for block in blocks("") if block.text.startswith("align "))]
    return list(dict.fromkeys(line for block in shell for line in raw_lines(block.text)))


def typed(line: str) -> str:
    added = [words for start, words in ADDED.items() if start in line and words not in line]
    kept = {name: f"<{i}>" for i, name in enumerate(KEPT)}
    for name, mark in kept.items():
        line = line.replace(name, mark)
    for word, value in TAKEN.items():
        line = line.replace(word, value)
    for name, mark in kept.items():
        line = line.replace(mark, name)
    return " ".join([line, *added])


def good(line: str, code: int) -> bool:
    """A gate is asked of a training of two steps, which need not meet it."""
    return code == MET or (code == NOT_MET and "--gate" in line)


def read() -> dict[str, dict[str, Any]]:
    return json.loads(SUMMARY.read_text(encoding="utf-8")) if SUMMARY.exists() else {}


def said(prompt: str) -> str:
    """A judge where it is asked for a verdict, else something to be judged."""
    return longer(prompt) if "[answer" in prompt else "A cup of tea, please."


def _write(found: dict[str, dict[str, Any]]) -> None:
    rows = (f" {json.dumps(line)}: {json.dumps(done)}" for line, done in found.items())
    SUMMARY.write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8")


def _type(line: str, folder: Path, env: dict[str, str]) -> dict[str, Any]:
    """Where people would be: in the clone for what is about it, else in a folder of their own."""
    told, begun = typed(line), time.monotonic()
    here = line.startswith(("make ", "pip ", ". "))
    path = f"{folder}/venv/bin:{env['PATH']}" if line.startswith("pip ") else env["PATH"]
    print(f"$ {told}", flush=True)
    done = subprocess.run(
        ("bash", "-c", told), cwd=REPOSITORY if here else folder, env=env | {"PATH": path}, text=True, check=False,
        input="How are you?\n", stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    seconds = round(time.monotonic() - begun, 1)
    print(f"  {done.returncode} after {seconds} s", flush=True)
    if not good(line, done.returncode):
        print(done.stdout[-3000:], flush=True)
    return {"typed": told, "code": done.returncode, "seconds": seconds}


def _environment(folder: Path, hub: str) -> dict[str, str]:
    """Of the project's own environment, whichever began this; the hub is the one of this machine."""
    path = f"{REPOSITORY}/.venv/bin:{os.environ['PATH']}"
    hub_of_here = {"HF_ENDPOINT": hub, "HF_HUB_OFFLINE": "0", "HF_TOKEN": "of-nobody", "HF_HOME": str(folder / "hub")}
    pinned = {"PIP_CONSTRAINT": str(REPOSITORY / "constraints.txt")}
    return dict(os.environ) | {"PATH": path, "OMP_NUM_THREADS": "1"} | hub_of_here | pinned


def _prepare(folder: Path, env: dict[str, str]) -> None:
    """What the reader is taken to have: prompts, a config of TRL's, a panel, a pipeline, files of MT-Bench."""
    (folder / "prompts.jsonl").write_text("".join(json.dumps({"prompt": p}) + "\n" for p in PROMPTS))
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "train.sh").write_text(f"{SCRIPT}    --dataset_name trl-lib/ultrafeedback_binarized\n")
    model = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 2048, "vocab_size": 32000,
             "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32}  # fmt: skip
    (folder / "config.json").write_text(json.dumps(model))
    for name, start in (("panel.yaml", "judges:"), ("stages.yaml", "folder:")):
        (block,) = (b for b in blocks("yaml") if b.text.startswith(start) and b.file != "README.md")
        (folder / name).write_text(block.text.replace("http:MODEL", "http:judge-1"))
    shutil.copytree(REPOSITORY / "align/assets/stories260k", folder / "sft-70b", dirs_exist_ok=True)
    config = json.loads((folder / "sft-70b/config.json").read_text()) | {"max_position_embeddings": 8192}
    (folder / "sft-70b/config.json").write_text(json.dumps(config))
    for name, rows in _mt_bench():
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if not (folder / "venv").exists():
        subprocess.run((sys.executable, "-m", "venv", folder / "venv"), check=True)
    for line in BEFORE:
        if not (folder / line.split("output_dir=")[1] / "final").exists():
            subprocess.run(("bash", "-c", line), cwd=folder, env=env, check=True)


def _mt_bench() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    answers = [{"question_id": q, "answer_id": f"a{q}", "model_id": "a", "tstamp": 1.0,
                "choices": [{"index": 0, "turns": ["One.", "Two."]}]} for q in (81, 82)]  # fmt: skip
    yield "model_answer", answers
    judged = {"model": "a", "judge": ["gpt-4", "single-v1"], "judgment": "[[7]]", "user_prompt": "?", "tstamp": 1.0}
    grades = [judged | {"question_id": q, "turn": t, "score": 7} for q in (81, 82) for t in (1, 2)]
    yield "model_judgment", grades


if __name__ == "__main__":
    main()
