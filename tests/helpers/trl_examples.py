"""TRL's six trainers as its documentation has them used, on small local files; LIBRARY is `trl` or `align.trl`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from align.models.sources import resolve

HEAD = """
from datasets import load_dataset
from {library} import {trainer}Config, {trainer}Trainer

dataset = load_dataset("json", data_files="{rows}.jsonl", split="train")
args = {trainer}Config(
    output_dir="{out}", per_device_train_batch_size={size}, max_steps=3, logging_steps=1, learning_rate=1e-4,
    report_to="none", save_strategy="no", disable_tqdm=True, use_cpu=True, bf16=False{more}
)
"""
PLAIN = 'trainer = {trainer}Trainer(model="{model}", args=args, train_dataset=dataset)\ntrainer.train()\n'
BY_LENGTH = """
def short(completions, completion_ids, trainer_state, log_metric, log_extra, **kwargs):
    log_metric("step_seen", trainer_state.global_step)
    log_extra("length", [len(ids) for ids in completion_ids])
    return torch.tensor([-float(len(text)) for text in completions])

async def half(prompts, completions, topic, **kwargs):
    return [None if name == "tea" else numpy.float32(0.5) for name in topic]

trainer = {trainer}Trainer(model="model", reward_funcs=[short, half], args=args, train_dataset=dataset)
trainer.train()
"""
EXAMPLES: dict[str, dict[str, Any]] = {
    "SFT": {"rows": "answers", "size": 6, "body": PLAIN, "more": ", max_length=64"},
    "Reward": {"rows": "pairs", "size": 6, "body": PLAIN, "model": "classifier"},
    "DPO": {"rows": "pairs", "size": 6, "body": PLAIN, "more": ", beta=0.3"},
    "KTO": {"rows": "verdicts", "size": 2, "body": PLAIN, "more": ", undesirable_weight=0.5"},
    "GRPO": {"rows": "topics", "size": 4, "body": BY_LENGTH},
    "RLOO": {"rows": "topics", "size": 4, "body": BY_LENGTH, "more": ", beta=0.1"},
}
WRITES = ", num_generations=2, max_completion_length=6, reward_weights=[0.1, 2.0]"
ANSWERS = ("Tea is warm and good.", "No.", "Have some tea, please.", "Go away now.", "It is a leaf.", "Once came tea.")


def text_of(trainer: str, library: str) -> str:
    """The example as a script, without the imports that every script has."""
    names = {"library": library, "trainer": trainer, "out": f"{library}-{trainer}"}
    one = {"more": "", "model": "model", **EXAMPLES[trainer], **names}
    if trainer in ("GRPO", "RLOO"):
        one["more"] += WRITES
    return (HEAD + one["body"]).format(**one)


def write_files(folder: Path, *, classifier: bool = False) -> None:
    """Rows of all kinds, and models as transformers saves them."""
    prompts = [f"Tell me of tea {i}." for i in range(6)]
    both = list(zip(prompts, ANSWERS, ANSWERS[::-1], strict=True))
    rows: dict[str, list[dict[str, Any]]] = {
        "answers": [{"prompt": p, "completion": f" {a}"} for p, a, _ in both],
        "pairs": [{"prompt": p, "chosen": f" {a}", "rejected": f" {b}"} for p, a, b in both],
        "verdicts": [{"prompt": p, "completion": f" {a}", "label": i == 0} for i, (p, a, _) in enumerate(both[:2])],
        "topics": [{"prompt": p, "topic": ("tea", "milk")[i % 2]} for i, p in enumerate(prompts)],
    }
    for name, found in rows.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    (folder / "model").symlink_to(stories := resolve("asset:stories260k"))
    if classifier:
        tokenizer = AutoTokenizer.from_pretrained(stories, pad_token="<unk>")  # TRL pads with EOS else, and scores none
        torch.manual_seed(0)
        model = AutoModelForSequenceClassification.from_pretrained(
            stories, num_labels=1, pad_token_id=tokenizer.pad_token_id
        )
        for one in (model, tokenizer):
            one.save_pretrained(folder / "classifier")
