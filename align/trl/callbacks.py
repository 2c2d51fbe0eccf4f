"""What looks on: transformers' callbacks at their moments, and `state.log_history` in TRL's words."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import EarlyStoppingCallback, TrainerCallback, TrainerControl, TrainerState
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from align.errors import RunError, UserError
from align.monitors.watch import Watch
from align.trl.rewards import Told

NEVER = ("on_substep_end", "on_pre_optimizer_step", "on_optimizer_step", "on_prediction_step", "on_predict")
NAMES = {  # metrics of metrics.jsonl that TRL logs under other names
    "accuracy": "rewards/accuracies", "margin": "rewards/margins", "chosen_rewards": "rewards/chosen",
    "rejected_rewards": "rewards/rejected", "chosen_logps": "logps/chosen", "rejected_logps": "logps/rejected",
    "token_accuracy": "mean_token_accuracy", "completion_length": "completions/mean_length",
    "truncated": "completions/clipped_ratio", "equal_groups": "frac_reward_zero_std",
    "clip_fraction": "clip_ratio/region_mean",
}  # fmt: skip
LAST = ("learning_rate", "num_tokens", "memory_mb")  # of which a line has the last value; of the others the mean


def refuse_unheard(callbacks: Sequence[TrainerCallback]) -> None:
    """UserError where a callback waits for a moment that never comes here."""
    for one in callbacks:
        waits = [n for n in NEVER if getattr(type(one), n, None) is not getattr(TrainerCallback, n, None)]
        if waits and not isinstance(one, PrinterCallback | ProgressCallback):
            raise UserError(
                f"align.trl: callbacks: {type(one).__name__}.{waits[0]}: is never called here; a callback is told of "
                "on_train_begin, on_epoch_begin, on_step_begin, on_step_end, on_log, on_evaluate, on_save, "
                "on_epoch_end and on_train_end"
            )


def patience_of(callbacks: Sequence[TrainerCallback]) -> dict[str, Any]:
    """Early stopping is the loop's own."""
    early = next((c for c in callbacks if isinstance(c, EarlyStoppingCallback)), None)
    if early is None:
        return {}
    if early.early_stopping_threshold:
        raise UserError("align.trl: EarlyStoppingCallback.early_stopping_threshold: any improvement counts here; use 0")
    return {"early_stopping_patience": early.early_stopping_patience}


class Callbacks(Watch):
    """Calls them on the main process, and keeps the log."""

    def __init__(self, args: Any, callbacks: Sequence[TrainerCallback], told: Told, rows: int, **beside: Any):
        """`rows`: of the training data; `beside`: further arguments of every call, such as `processing_class`."""
        self.args, self.told, self.rows, self.beside = args, told, rows, beside
        self.callbacks = [c for c in callbacks if not isinstance(c, EarlyStoppingCallback)]
        self.state, self.control = told.state, TrainerControl()
        self.per_step = 0
        self._since: dict[str, list[float]] = defaultdict(list)  # the last line of the log

    def began(self, step: int, num_steps: int) -> None:
        self.state.global_step, self.state.max_steps = step, num_steps
        self.state.epoch = self._epoch(step)
        for moment in ("on_train_begin", "on_epoch_begin", "on_step_begin"):
            self._call(moment)

    def step(self, step: int, row: Mapping[str, float | int]) -> bool:
        state, whole = self.state, int(self._epoch(step)) > int(self._epoch(step - 1))
        state.global_step, state.epoch = step, self._epoch(step)
        evaluated = {k: v for k, v in row.items() if k.startswith("eval/")}
        for name, value in row.items():
            if name not in evaluated:
                self._since[name].append(value)
        self._call("on_step_end")
        if self._logs(step) or self.control.should_log:
            self._log({**in_trl_words(self._averaged()), **self.told.averaged()})
        if evaluated:
            self._log(found := in_trl_words(evaluated))
            self._call("on_evaluate", metrics=found)
        if whole:
            self._call("on_epoch_end")
        self._refuse_wishes(step, bool(evaluated))
        last = self.control.should_training_stop or step >= state.max_steps
        for moment in () if last else (*(("on_epoch_begin",) if whole else ()), "on_step_begin"):
            self._call(moment)
        return self.control.should_training_stop

    def saved(self, step: int, folder: Path) -> None:
        self._call("on_save")

    def ended(self, numbers: Mapping[str, float]) -> None:
        """The last line of the log, of the whole training."""
        self._log(dict(numbers))
        self._call("on_train_end")

    def _logs(self, step: int) -> bool:
        strategy = str(getattr(self.args.logging_strategy, "value", self.args.logging_strategy))
        if strategy == "epoch":
            return int(self._epoch(step)) > int(self._epoch(step - 1)) or step == self.state.max_steps
        every = self.args.logging_steps
        every = max(1, round(every * self.state.max_steps)) if every < 1 else int(every)
        return strategy == "steps" and (step % every == 0 or (step == 1 and self.args.logging_first_step))

    def _averaged(self) -> dict[str, float]:
        found = {n: v[-1] if n in LAST else sum(v) / len(v) for n, v in self._since.items()}
        self._since.clear()
        return found

    def _log(self, line: dict[str, float]) -> None:
        line["epoch"] = self.state.epoch or 0.0
        self.state.log_history.append({**line, "step": self.state.global_step})
        self._call("on_log", logs=line)

    def _epoch(self, step: int) -> float:
        return step * self.per_step / self.rows

    def _call(self, moment: str, **more: Any) -> None:
        for one in self.callbacks:
            getattr(one, moment)(self.args, self.state, self.control, **self.beside, **more)

    def _refuse_wishes(self, step: int, evaluated: bool) -> None:
        """What a callback asks for by `control` and cannot have. RunError."""
        wishes = {"should_evaluate": not evaluated, "should_save": True, "should_epoch_stop": True}
        if odd := [name for name, unmet in wishes.items() if unmet and getattr(self.control, name)]:
            raise RunError(f"step {step}: a callback set control.{odd[0]}; say by args when that is to be")
        self.control.should_log = self.control.should_evaluate = False


def in_trl_words(row: Mapping[str, float | int]) -> dict[str, float]:
    """Metrics by the names under which TRL logs them; `eval/loss` is `eval_loss`."""
    found: dict[str, float] = {}
    for name, value in row.items():
        inner = name.removeprefix("eval/")
        plain = f"{inner}/mean" if inner.startswith("rewards/") else NAMES.get(inner, inner)
        found[plain if inner == name else f"eval_{plain}"] = value
    return found


def new_state(args: Any) -> TrainerState:
    return TrainerState(
        log_history=[], save_steps=args.save_steps, is_local_process_zero=True, is_world_process_zero=True
    )  # fmt: skip
