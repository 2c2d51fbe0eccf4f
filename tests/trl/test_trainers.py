"""TRL's examples with nothing but the import changed: they run, and lose what they lose in TRL."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from datasets import Dataset
from fake_hub import serving
from huggingface_hub import constants
from peft import LoraConfig, PrefixTuningConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, EarlyStoppingCallback, TrainerCallback
from trl_examples import text_of, write_files

import align
from align.trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

STEPS = 3
SMALL: dict[str, Any] = {
    "per_device_train_batch_size": 3, "max_steps": 2, "logging_steps": 1, "use_cpu": True, "bf16": False,
    "report_to": "none", "save_strategy": "no",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path, classifier="Reward" in request.node.name)


def trained(name: str, library: str) -> Any:
    found: dict[str, Any] = {"torch": torch, "numpy": numpy}
    exec(compile(text_of(name, library), f"{name}.py", "exec"), found)
    return found["trainer"]


def column(trainer: Any, name: str) -> list[float]:
    return [line[name] for line in trainer.state.log_history if name in line]


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", ["SFT", "Reward", "DPO", "KTO"])
def test_losses_equal_trl_on_the_same_batches(name: str) -> None:
    """The whole data set is a batch, so the order of rows says nothing; KTO has two, and no choice of partners."""
    ours, theirs = trained(name, "align.trl"), trained(name, "trl")
    assert column(ours, "loss") == pytest.approx(column(theirs, "loss"), abs=1e-5)
    assert column(ours, "learning_rate") == pytest.approx(column(theirs, "learning_rate"))
    assert column(ours, "epoch")[:STEPS] == column(theirs, "epoch")[:STEPS]
    assert len(set(column(ours, "loss"))) == STEPS  # there is something to compare
    if name == "DPO":
        for metric in ("rewards/margins", "rewards/accuracies", "logps/chosen", "grad_norm"):
            assert column(ours, metric) == pytest.approx(column(theirs, metric), abs=1e-3), metric


@pytest.mark.parametrize("name", ["GRPO", "RLOO"])
def test_rewards_get_what_trl_gives_them(name: str) -> None:
    trainer = trained(name, "align.trl")
    assert column(trainer, "step_seen") == [0.0, 1.0, 2.0]  # steps that were made when it was asked
    assert len(trainer.extra["length"]) == STEPS * 4
    short, half = column(trainer, "rewards/short/mean"), column(trainer, "rewards/half/mean")
    assert set(half) <= {0.5}  # where it says nothing, nothing counts
    assert all(value < 0 for value in short)
    assert trainer.run.folder == Path(f"align.trl-{name}")


class Seen(TrainerCallback):
    def __init__(self) -> None:
        self.moments: list[str] = []

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("on_"):
            object.__getattribute__(self, "moments").append(name)
        return object.__getattribute__(self, name)


class Enough(TrainerCallback):
    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        control.should_training_stop = state.global_step == 1


def answers() -> Dataset:
    return Dataset.from_list([{"prompt": f"Tea {i}.", "completion": " It is warm."} for i in range(6)])


def test_objects_callbacks_and_what_comes_after_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained("model"), AutoTokenizer.from_pretrained("model")
    before, seen = model.lm_head.weight.clone(), Seen()
    args = SFTConfig("out", eval_strategy="steps", eval_steps=2, learning_rate=1e-3, **{**SMALL, "save_steps": 1})
    trainer = SFTTrainer(
        model, args=args, train_dataset=answers(), eval_dataset=answers(), processing_class=tokenizer, callbacks=[seen]
    )
    with pytest.raises(align.UserError, match="save_model: nothing has been trained"):
        trainer.save_model()
    told = trainer.train()
    assert told.global_step == 2
    assert seen.moments == [
        "on_train_begin", "on_epoch_begin", "on_step_begin", "on_step_end", "on_log", "on_step_begin", "on_step_end",
        "on_log", "on_log", "on_evaluate", "on_epoch_end", "on_save", "on_log", "on_train_end",
    ]  # fmt: skip
    assert trainer.model is model
    assert not torch.equal(model.lm_head.weight, before)
    assert trainer.evaluate()["eval_loss"] == column(trainer, "eval_loss")[-1]
    trainer.save_model("saved")
    saved = AutoModelForCausalLM.from_pretrained("saved")
    assert torch.equal(saved.lm_head.weight, model.lm_head.weight)
    monkeypatch.setitem(os.environ, "HF_HUB_OFFLINE", "1")
    with pytest.raises(align.UserError, match="push to the hub: it is switched off"):
        trainer.push_to_hub()


def test_a_callback_ends_it_and_a_checkpoint_goes_on_and_to_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    args = SFTConfig("out", push_to_hub=True, hub_model_id="us/mine", hub_token="of-nobody", **SMALL)
    with pytest.raises(align.UserError, match="push to the hub: it is switched off"):
        SFTTrainer("model", args, train_dataset=answers())
    args.push_to_hub = False
    first = SFTTrainer("model", args, train_dataset=answers(), callbacks=[Enough], peft_config=LoraConfig(r=4))
    first.train()
    assert (first.state.global_step, first.run.outcome["ended_early"]) == (1, True)
    again = SFTTrainer("model", args, train_dataset=answers(), peft_config=LoraConfig(r=4))
    with serving() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        args.push_to_hub = True
        assert again.train(resume_from_checkpoint=True).global_step == 2
        assert "adapter_model.safetensors" in (hub.files("us/mine", "main") or ("", {}))[1]
    assert type(again.model).__name__ == "PeftModelForCausalLM"


class Waits(TrainerCallback):
    def on_optimizer_step(self, *asked: Any, **rest: Any) -> None: ...


def test_what_is_not_offered_is_refused_by_name_and_all_at_once() -> None:
    args = DPOConfig(
        "out", loss_type=["sigmoid", "sft"], sync_ref_model=True, optim="galore_adamw", eval_strategy="steps",
        truncation_mode="middle", **SMALL,
    )  # fmt: skip
    args.deepspeed = {"zero_optimization": {"stage": 3}}  # as TRL's has it, which then sets the process's variables
    with pytest.raises(align.UserError) as told:
        DPOTrainer(
            "model", args=args, train_dataset=answers(), data_collator=print, compute_metrics=print,
            peft_config=PrefixTuningConfig(task_type="CAUSAL_LM"), callbacks=[Waits, EarlyStoppingCallback(2, 0.1)],
        )  # fmt: skip
    text = str(told.value)
    for name in (
        "args.loss_type", "args.sync_ref_model", "args.optim", "args.eval_strategy: needs an eval_dataset",
        "args.truncation_mode", "args.deepspeed: is not read here; say it where the script is started",
        "data_collator: not offered", "compute_metrics: not offered", "peft_config: found PrefixTuningConfig",
        "Waits.on_optimizer_step: is never called", "early_stopping_threshold",
    ):  # fmt: skip
        assert name in text, name
    assert len(text.splitlines()) == 11
    with pytest.raises(AttributeError, match="DPOTrainer has no predict; there are train"):
        _ = SFTTrainer.__getattr__(object.__new__(DPOTrainer), "predict")
    with pytest.raises(TypeError, match="unexpected keyword argument 'tokenizer'"):
        DPOTrainer("model", tokenizer=None)
    with pytest.raises(align.UserError, match=r"peft_config\.modules_to_save: found \['lm_head'\]"):
        SFTTrainer("model", train_dataset=answers(), peft_config=LoraConfig(modules_to_save=["lm_head"]))
    assert not Path("out").exists()
