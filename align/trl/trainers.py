"""TRL's six trainers: their arguments, this package's loop, and what one asks of them afterwards."""

from __future__ import annotations

import inspect
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
import trl
from transformers import PreTrainedModel, TrainerCallback
from transformers.trainer_utils import TrainOutput

from align.api.apart import apart
from align.api.run import Run
from align.api.train import carry_out, prepared
from align.errors import Findings, UserError
from align.run.hub import push, refuse
from align.run.resume import Resume
from align.system.files import copy_folder
from align.trl.arguments import PLACE, recipe_of
from align.trl.callbacks import Callbacks, in_trl_words, new_state, patience_of, refuse_unheard
from align.trl.rewards import Told, functions_of
from align.world.here import rank

THERE = "train, evaluate, save_model, push_to_hub, add_callback, remove_callback, model, state, run"


class Trainer:
    """What all six do. `run` is the run of the last training, as `align.Run`; `extra` what rewards have logged."""

    theirs: ClassVar[Any]  # TRL's trainer, whose arguments are taken
    config: ClassVar[Any]
    kind: ClassVar[str]  # as the table of words calls it

    def __init__(self, *given: Any, **named: Any):
        """Everything that is not offered is told here, together. The arguments are those of TRL's trainer."""
        asked = dict(inspect.signature(self.theirs).bind(*given, **named).arguments)
        if asked.get("args") is None:
            here = {} if torch.cuda.is_available() else {"use_cpu": True, "bf16": False}
            asked["args"] = self.config(output_dir=f"{_called(asked['model'])}-{self.kind.upper()}", **here)
        self.args, self.model, self.train_dataset = asked["args"], asked["model"], asked.get("train_dataset")
        self.eval_dataset, self.processing_class = asked.get("eval_dataset"), asked.get("processing_class")
        self.state, self.run = new_state(self.args), None
        self._told = Told(self.state)
        self._callbacks = [c() if isinstance(c, type) else c for c in asked.get("callbacks") or []]
        self._recipe = self._checked(asked)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"{PLACE}: {type(self).__name__} has no {name}; there are {THERE}")

    @property
    def extra(self) -> dict[str, list[Any]]:
        """Columns that reward functions have logged by `log_extra`, a value for each completion."""
        return self._told.extra

    def _checked(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        found, recipe = Findings(), dict[str, Any]()
        with found:
            recipe = recipe_of(self.kind, asked)
        with found:
            refuse_unheard(self._callbacks)
        with found:
            if self.args.push_to_hub:
                refuse(self._hub_name())
        with found:
            recipe.setdefault("training", {}).update(patience_of(self._callbacks))
        if "reward_funcs" in inspect.signature(self.theirs).parameters:
            with found:
                functions = functions_of(asked.get("reward_funcs"), self.args.reward_weights, self._told)
                recipe.setdefault("reward", {})["functions"] = functions
        found.tell()
        return recipe

    def add_callback(self, callback: TrainerCallback | type[TrainerCallback]) -> None:
        made = callback() if isinstance(callback, type) else callback
        refuse_unheard([made])
        self._recipe["training"].update(patience_of([made]))
        self._callbacks.append(made)

    def remove_callback(self, callback: TrainerCallback | type[TrainerCallback]) -> None:
        same = (lambda c: type(c) is callback) if isinstance(callback, type) else (lambda c: c is callback)
        self._callbacks = [c for c in self._callbacks if not same(c)]

    def train(self, resume_from_checkpoint: bool | str | None = None) -> TrainOutput:
        """To the end, and with `args.push_to_hub` onto the hub; True goes on from the last good checkpoint, a folder
        from that one.

        A model that was given as an object has the trained weights afterwards. Raises as `align.train`.
        """
        began, path = time.monotonic(), resume_from_checkpoint
        resume = Resume(path="auto" if path is True else str(path)) if path else None
        watch = Callbacks(
            self.args, self._callbacks, self._told, len(self.train_dataset or ()), model=self.model,
            processing_class=self.processing_class,
        )  # fmt: skip

        def prepare() -> Any:
            one = prepared(self._recipe, {}, resume)
            watch.per_step = one.recipe.training.batch_size
            return one

        with apart():
            self.run = carry_out(prepare, watch)
        self._take_weights()
        losses = [row["loss"] for row in self.run.lines("metrics")]
        seconds, loss = time.monotonic() - began, sum(losses) / len(losses)
        metrics = {"train_runtime": seconds, "train_steps_per_second": len(losses) / seconds, "train_loss": loss}
        watch.ended(metrics)
        if self.args.push_to_hub and rank() == 0:
            self.push_to_hub()
        return TrainOutput(self.state.global_step, loss, metrics)

    def _take_weights(self) -> None:
        trained = self._finished("model").model()
        if isinstance(self.model, PreTrainedModel) and self.model.state_dict().keys() == trained.state_dict().keys():
            self.model.load_state_dict(trained.state_dict())
        else:
            self.model = trained

    def evaluate(self) -> dict[str, float]:
        """Held-out metrics of the weights that training ended with, in TRL's words. UserError before training."""
        rows = [row for row in self._finished("evaluate").lines("metrics") if "eval/loss" in row]
        if not rows:
            raise UserError(f"{PLACE}: evaluate: there is no eval_dataset")
        return in_trl_words({k: v for k, v in rows[-1].items() if k.startswith("eval/")})

    def save_model(self, output_dir: str | Path | None = None) -> None:
        """The trained model and its tokenizer as a folder of transformers (or of peft's adapter)."""
        final, target = self._finished("save_model").folder / "final", Path(output_dir or self.args.output_dir)
        copy_folder(final, target)

    def push_to_hub(self, commit_message: str = "End of training") -> str:
        """Uploads `final/` under `args.hub_model_id`, or the name of the run folder; returns the address."""
        final = self._finished("push_to_hub").folder / "final"
        private, token = self.args.hub_private_repo, self.args.hub_token
        return push(final, self._hub_name(), private=private, token=token, message=commit_message)

    def _hub_name(self) -> str:
        return self.args.hub_model_id or Path(self.args.output_dir).name

    def _finished(self, asks: str) -> Run:
        if self.run is None:
            raise UserError(f"{PLACE}: {asks}: nothing has been trained; call train() before")
        return self.run


def _called(model: Any) -> str:
    name = model if isinstance(model, str | Path) else getattr(model, "name_or_path", "") or "model"
    return str(name).rstrip("/").rpartition("/")[2].removeprefix("asset:")


class SFTTrainer(Trainer):
    theirs, config, kind = trl.SFTTrainer, trl.SFTConfig, "sft"


class RewardTrainer(Trainer):
    theirs, config, kind = trl.RewardTrainer, trl.RewardConfig, "reward"


class DPOTrainer(Trainer):
    theirs, config, kind = trl.DPOTrainer, trl.DPOConfig, "dpo"


class KTOTrainer(Trainer):
    theirs, config, kind = trl.KTOTrainer, trl.KTOConfig, "kto"


class GRPOTrainer(Trainer):
    theirs, config, kind = trl.GRPOTrainer, trl.GRPOConfig, "grpo"


class RLOOTrainer(Trainer):
    theirs, config, kind = trl.RLOOTrainer, trl.RLOOConfig, "rloo"
