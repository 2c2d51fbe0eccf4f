"""The recipe's sections `training`, `optim` and `logging`."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Literal

from align.system.ranges import AtLeastOne, Positive, ShareBelowOne

Layout = Literal["auto", "padded", "packed", "shared"]

MICRO_BATCH = 8192  # tokens, where the recipe names no number: enough to keep a GPU busy
CPU_MICRO_BATCH = 2048  # as fast or faster there, since more stays in the caches, at a fraction of the memory
HEAD_BYTES = 256 * 2**20  # logits (float32) that may stand in memory at once, where the recipe does not say
LEAST_CHUNK = 256  # predicted tokens at least, however large the vocabulary


@dataclass(frozen=True, kw_only=True)
class TrainingSection:
    """How long, in which portions, and what is kept."""

    output_dir: str = ""  # the run folder; empty is runs/<recipe name>
    seed: int = 0  # of the order of rows, of sampling, of dropout and of new weights
    batch_size: AtLeastOne = 32  # groups (pairs, demonstrations) in one optimiser step, over all ranks
    num_minibatches: AtLeastOne = 1  # steps on an experience of offline rows; its stored columns are made once
    max_tokens: int = 0  # tokens in one micro-batch of one rank: memory, not mathematics; 0: 8192, on a CPU 2048
    num_train_epochs: float = 1.0  # passes over `data.train`
    max_steps: int = 0  # optimiser steps; 0 goes by epochs
    layout: Layout = "auto"  # how sequences stand in the rows of a forward pass: speed and memory, not mathematics
    mixed_precision: Literal["auto", "no", "bf16"] = "auto"  # auto: bf16 autocast on a GPU that has it, else none
    gradient_checkpointing: bool = False  # activations are computed again on the way back: less memory, more time
    head_chunk: int = 0  # completion tokens whose logits stand in memory at once; 0 chooses by vocabulary size
    # optimiser steps between evaluations on the validation split, below 1 a share of all steps; 0: at the end only
    eval_steps: int | float = 0
    save_steps: int | float = 0  # optimiser steps between checkpoints, likewise
    save_total_limit: AtLeastOne = 2  # checkpoints kept beside the best one
    metric_for_best_model: str = "loss"  # a validation metric; decides keep-best and early stopping
    greater_is_better: bool | None = None  # whether larger is better; empty: as the metric itself says
    load_best_model_at_end: bool = False  # final/ holds the weights of the best evaluation instead of the last step
    early_stopping_patience: int = 0  # evaluations without improvement before training ends; 0 never
    max_eval_rows: int = 0  # held-out rows of an evaluation; 0: all
    per_device_train_batch_size: int = 0  # TRL's pair of names for batch_size: their product times the world size
    gradient_accumulation_steps: int = 0  # the other one of the pair

    def in_steps(self, num_steps: int) -> TrainingSection:
        """The same for a run of so many steps: shares of them are steps."""
        every = {key: in_steps(getattr(self, key), num_steps) for key in ("eval_steps", "save_steps")}
        return dataclasses.replace(self, **every)


def in_steps(value: float, num_steps: int) -> int:
    """Steps, where a number below 1 is a share of all of them."""
    return math.ceil(value * num_steps) if 0 < value < 1 else int(value)


@dataclass(frozen=True, kw_only=True)
class OptimSection:
    """The optimiser and its schedule."""

    optim: str = "AdamW"  # a class of torch.optim or transformers.optimization; AdamW8bit, Adam8bit, Lion8bit
    learning_rate: Positive = 1e-6  # of most methods; sft, dft, orpo and reward_model have usual rates of their own
    learning_rate_of_round: list[Positive] = field(default_factory=list)  # instead: one for each round
    # float32 copies of weights in bfloat16 or float16, which the optimiser steps; DeepSpeed always has them
    masters: bool = False
    weight_decay: float = 0.0  # not on biases, norms and other vectors
    adam_beta1: ShareBelowOne = 0.9  # decay of the running mean of the gradient
    adam_beta2: ShareBelowOne = 0.999  # decay of the running mean of its square
    adam_epsilon: Positive = 1e-8  # added to the root of that mean
    optim_args: dict[str, Any] = field(default_factory=dict)  # further arguments of the optimiser's class
    lr_scheduler_type: str = "cosine"  # transformers' names: linear, cosine, constant, constant_with_warmup, ...
    # further arguments of the schedule: {min_lr_rate: 0.1}
    lr_scheduler_kwargs: dict[str, Any] = field(default_factory=dict)
    warmup_ratio: ShareBelowOne = 0.0  # share of all steps in which the rate rises
    warmup_steps: int = 0  # the same in steps, instead
    max_grad_norm: float = 1.0  # gradients are clipped at this norm; 0 does not clip


@dataclass(frozen=True, kw_only=True)
class LoggingSection:
    """What is written, and to whom."""

    logging_steps: AtLeastOne = 1  # steps between two lines on the terminal; metrics.jsonl has every step
    # tensorboard, wandb, trackio; empty: nothing leaves the run folder
    report_to: list[str] = field(default_factory=list)
    num_completions: int = 8  # held-out prompts whose completions are shown before and after training
    max_completion_length: int = 64  # new tokens of each
    baselines: list[Literal["bag_of_words"]] = field(default_factory=list)  # simple rankers, to compare with
