"""TRL's side of a case in which the policy writes: its real GRPO trainer, running its own `train`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoTokenizer, LlamaForCausalLM
from trl import GRPOConfig, GRPOTrainer

from tests.bench.cases import Case, Row, earned, words
from tests.bench.clock import Clock, Parts, Seconds
from tests.bench.trl_side import Gate, Over


class TRLOnline:
    """Options: `micro` (rows of a micro-batch, default all), and any keys of `GRPOConfig`."""

    def __init__(self, case: Case, rows: Sequence[Row], folder: Path, options: dict[str, Any]):
        options = dict(options)
        self.case, self.rows = case, rows
        whole = case.batch_size * case.group_size
        micro = options.pop("micro", whole)
        args = GRPOConfig(
            output_dir=str(folder / "trl"), report_to="none", save_strategy="no", logging_strategy="no",
            disable_tqdm=True, use_cpu=not torch.cuda.is_available(), max_steps=100_000, learning_rate=1e-6,
            lr_scheduler_type="constant", dataloader_pin_memory=False, per_device_train_batch_size=micro,
            gradient_accumulation_steps=whole // micro, num_generations=case.group_size,
            max_completion_length=case.completion, beta=case.beta, use_bias_correction_kl=False, loss_type="grpo",
            **options,
        )  # fmt: skip
        self.trainer: Any = GRPOTrainer(
            model=LlamaForCausalLM.from_pretrained(folder, attn_implementation="sdpa", dtype=torch.float32),
            reward_funcs=[earned], args=args, processing_class=AutoTokenizer.from_pretrained(folder),
            train_dataset=Dataset.from_list([{"prompt": words(row.prompt) + " "} for row in rows]),
        )  # fmt: skip
        self._endless()
        self.notes: list[str] = []
        self.parts = Parts()

    def _endless(self) -> None:
        """Nothing ends a completion: the number of this token is one that the model does not have."""
        never = [self.case.shape.vocab_size]
        self.trainer.eos_token_ids = self.trainer.generation_config.eos_token_id = never
        self.trainer.generation_kwargs["eos_token_id"] = never

    # ---- equality ---------------------------------------------------------------------------------------------------

    def tokens(self) -> list[list[int]]:
        return self.trainer._tokenize_prompts(self._prompts())[0]

    def greedy(self) -> list[list[int]]:
        """The likeliest completion of each prompt."""
        self.trainer.generation_config.do_sample = False
        try:
            return self._write()[1][:: self.case.group_size]
        finally:
            self.trainer.generation_config.do_sample = True

    def lengths(self) -> list[int]:
        """Of sampled completions."""
        return [len(c) for c in self._write()[1]]

    def columns(self) -> list[list[float]]:
        """Log-probabilities of the given completions."""
        inputs = self._given()
        ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], 1)
        with torch.no_grad():
            found = self.trainer._get_per_token_logps_and_entropies(
                self.trainer.model, ids, torch.ones_like(ids), self.case.completion
            )
        return found[0].tolist()

    def learn(self) -> tuple[float, float]:
        """Loss and gradient norm of a step on the given completions; the weights stay."""
        trainer, inputs = self.trainer, self._given()
        trainer.current_gradient_accumulation_steps = 1
        loss = trainer.compute_loss(trainer.model, inputs)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(trainer.model.parameters(), float("inf"))
        trainer.model.zero_grad(set_to_none=True)
        return loss.item(), norm.item()

    def _prompts(self) -> list[str]:
        return [words(row.prompt) + " " for row in self.rows for _ in range(self.case.group_size)]

    def _write(self) -> Any:
        self.trainer.model.train()
        return self.trainer._generate(self._prompts())

    def _given(self) -> Any:
        """The batch that the trainer makes of the given completions."""
        trainer, given = self.trainer, [c for row in self.rows for c in row.completions]
        write, trainer._generate_single_turn = trainer._generate_single_turn, lambda *rest, **more: (given, None)
        trainer.model.train()
        try:
            return trainer._generate_and_score_completions([{"prompt": p} for p in self._prompts()])
        finally:
            trainer._generate_single_turn = write

    # ---- time -------------------------------------------------------------------------------------------------------

    def train(self, wait: Callable[[], bool], done: Callable[[Seconds], None]) -> None:
        """A step each time that `wait` says True."""

        def begin() -> bool:
            asked = wait()
            self.parts.now = {}  # of questions that were answered in between
            return asked

        def over(taken: Seconds) -> None:
            self.parts.rest("train" if self.case.kind == "grpo" else "score", taken[0])
            done(taken)

        if self.case.kind == "generate":
            while begin():
                clock, started = Clock(self.trainer.args.device), time.perf_counter()
                self._write()
                self.parts.add("generate", time.perf_counter() - started)
                over(clock.read())
            return
        self._watched()
        self.trainer.add_callback(Gate(begin, over, self.trainer.args.device))
        with suppress(Over):
            self.trainer.train()

    def _watched(self) -> None:
        """Notes how long the two stages before the loss take."""
        trainer, parts = self.trainer, self.parts
        write, make = trainer._generate_single_turn, trainer._generate_and_score_completions

        def writing(*given: Any, **named: Any) -> Any:
            started = time.perf_counter()
            found = write(*given, **named)
            parts.add("generate", time.perf_counter() - started)
            return found

        def making(*given: Any, **named: Any) -> Any:
            started = time.perf_counter()
            found = make(*given, **named)
            parts.add("score", time.perf_counter() - started - parts.now.get("generate", 0.0))
            return found

        trainer._generate_single_turn, trainer._generate_and_score_completions = writing, making
