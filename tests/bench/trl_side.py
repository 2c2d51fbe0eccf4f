"""TRL's side of a case: its real trainers, running their own `train`, held before each step by a callback.

The rows are handed over as text, tokenised by TRL, and collated by its own collators.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoTokenizer, LlamaForCausalLM, LlamaForSequenceClassification, TrainerCallback
from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer, SFTConfig, SFTTrainer

from tests.bench.cases import Case, Row, words
from tests.bench.clock import Clock, Seconds

TRAINERS: dict[str, tuple[Any, Any]] = {
    "dpo": (DPOTrainer, DPOConfig),
    "sft": (SFTTrainer, SFTConfig),
    "reward": (RewardTrainer, RewardConfig),
}


class Over(Exception):
    """No more steps are wanted: leaves the training loop where it stands."""


class Gate(TrainerCallback):
    """Waits before a step and times it."""

    def __init__(self, wait: Callable[[], bool], done: Callable[[Seconds], None], device: torch.device):
        self.wait, self.done, self.device = wait, done, device

    def on_step_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        if not self.wait():
            raise Over
        self.clock = Clock(self.device)

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        self.done(self.clock.read())


class TRLSide:
    """Options: `micro` (rows of a micro-batch, default all), `attention`, and any keys of the trainer's own config."""

    def __init__(self, case: Case, rows: Sequence[Row], folder: Path, options: dict[str, Any]):
        options = dict(options)
        self.case = case
        tokenizer = AutoTokenizer.from_pretrained(folder)
        kind = LlamaForSequenceClassification if case.kind == "reward" else LlamaForCausalLM
        attention = options.pop("attention", "sdpa")
        micro = options.pop("micro", case.batch_size)
        model = kind.from_pretrained(folder, attn_implementation=attention, dtype=torch.float32)
        trainer, config = TRAINERS[case.kind]
        extra: dict[str, Any] = {"precompute_ref_log_probs": case.cached} if case.kind == "dpo" else {}
        args = config(
            output_dir=str(folder / "trl"), report_to="none", save_strategy="no", logging_strategy="no",
            disable_tqdm=True, max_length=None, use_cpu=not torch.cuda.is_available(), max_steps=100_000,
            per_device_train_batch_size=micro, gradient_accumulation_steps=case.batch_size // micro,
            learning_rate=1e-6, lr_scheduler_type="constant", dataloader_pin_memory=False, **extra, **options,
        )  # fmt: skip
        self.trainer = trainer(model=model, args=args, train_dataset=_dataset(case, rows), processing_class=tokenizer)
        self.notes: list[str] = []

    def tokens(self) -> list[list[int]]:
        """Every sequence as TRL's own collator laid it out, padding cut off."""
        batch = self._batch()
        return [
            ids[: int(n)].tolist() for ids, n in zip(batch["input_ids"], batch["attention_mask"].sum(-1), strict=True)
        ]

    def columns(self) -> list[list[float]]:
        """Log-probabilities of each sequence's learnt tokens (a reward model: its score), in the order of `tokens`."""
        batch, model = self._batch(), self.trainer.model
        inputs = {k: v.to(model.device) for k, v in batch.items() if k in ("input_ids", "attention_mask")}
        with torch.no_grad(), self.trainer.accelerator.autocast():
            if self.case.kind == "reward":
                return model(**inputs).logits.tolist()
            labels = batch.get("labels")
            if labels is None:
                labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100)
            found = model(**inputs, labels=labels.to(model.device), fused_lm_head=True).log_probs.cpu()
        return [values[kept].tolist() for values, kept in zip(found, labels[:, 1:] != -100, strict=True)]

    def train(self, wait: Callable[[], bool], done: Callable[[Seconds], None]) -> None:
        """A step each time that `wait` says True."""
        self.trainer.add_callback(Gate(wait, done, self.trainer.args.device))
        with suppress(Over):
            self.trainer.train()

    def _batch(self) -> dict[str, torch.Tensor]:
        features = [self.trainer.train_dataset[i] for i in range(self.case.batch_size)]
        return dict(self.trainer.data_collator(features))


def _dataset(case: Case, rows: Sequence[Row]) -> Dataset:
    if case.kind == "sft" and case.name.startswith("sft_text"):
        return Dataset.from_list([{"text": words([*r.prompt, *r.completions[0]])} for r in rows])
    names = ("completion",) if case.kind == "sft" else ("chosen", "rejected")
    return Dataset.from_list(
        [
            {"prompt": words(r.prompt) + " ", **{n: words(c) for n, c in zip(names, r.completions, strict=True)}}
            for r in rows
        ]
    )
