"""The state of a run, into a checkpoint's folder and back, bitwise, however it is sharded.

weights.safetensors   the trained parameters (whole; of an adapter only its own)
optimizer.pt          the optimiser's moments
deepspeed/            instead of both: DeepSpeed's own files (pickles)
critic/               the same three for a critic that is a model of its own
random-00000.pt       the random generators of each rank
progress.json         counters, controllers, best evaluation
identity.json         all that its numbers depend on, and of which run it is
logs.json             how long the run's logs were, and their sums
experience.pt         what has been written and not been learned to its end
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from align.errors import Elsewhere, UserError
from align.models.embeddings import gathered
from align.runfolder import checkpoint
from align.runfolder.logs import Mark
from align.runfolder.state_files import (
    load_state,
    load_tensors,
    random_state,
    save_state,
    save_tensors,
    set_random_state,
)
from align.system.files import replace_file
from align.training.controllers import Remembered
from align.training.step import Trainee

EXPERIENCE = "experience.pt"
IDENTITY = "identity.json"
LOGS = "logs.json"
CRITIC = "critic"  # a folder like this one, for a critic that is a model of its own
TAG = "state"  # DeepSpeed wants a name inside its folder


@dataclass
class Progress:
    """What the loop remembers between steps, beside weights and moments."""

    step: int = 0  # optimiser steps done
    num_tokens: int = 0  # tokens trained on so far, prompts included
    num_prompts: int = 0  # prompts that completions were asked for so far
    best_step: int = -1  # of the best evaluation, -1 before the first
    best_value: float = 0.0
    bad_evaluations: int = 0  # in a row without improvement
    ended_early: bool = False
    owed: dict[str, float] = field(default_factory=dict)  # the last step's numbers, while its evaluation is to be made
    controllers: Remembered = field(default_factory=dict)  # of the experiences so far
    critic_steps: int = 0  # those in which the critic has learned alone
    value_losses: list[float] = field(default_factory=list)  # of the steps in which a critic may learn alone
    explained_variances: list[float] = field(default_factory=list)  # of the experiences that they learned from

    @property
    def told(self) -> int:
        """Steps of which all is told that there is to tell."""
        return self.step - bool(self.owed)


@dataclass(frozen=True)
class About:
    """What a checkpoint says of the run that it is of."""

    identity: Mapping[str, Any]
    logs: Mapping[str, Mark]


def save(
    root: Path, trainee: Trainee, progress: Progress, experience: Any = None, about: About | None = None
) -> Path:
    """Writes a checkpoint of `progress.step`; all ranks take part, the main one commits it."""
    world = trainee.world
    tmp = checkpoint.temporary(root, progress.step)
    with world.main_first():
        if world.main:
            checkpoint.begin(root, progress.step)
    failure: Exception | None = None
    try:
        with checkpoint.guarded(tmp):
            save_state(random_state(), tmp / f"random-{world.rank:05d}.pt")
            _write(tmp, trainee)
            if trainee.critic is not None:
                _write(tmp / CRITIC, trainee.critic)
            if world.main:
                replace_file(tmp / "progress.json", json.dumps(asdict(progress)))
                if about is not None:
                    replace_file(tmp / IDENTITY, json.dumps(about.identity, indent=1))
                    replace_file(tmp / LOGS, json.dumps(about.logs))
                if experience is not None:
                    save_state(experience, tmp / EXPERIENCE)
    except Exception as error:
        failure = error
    if world.any(failure is not None):
        raise failure or Elsewhere("another process could not save its part; the checkpoint before is intact")
    with world.main_first():
        if world.main:
            with checkpoint.guarded(tmp):
                checkpoint.commit(tmp, progress.step)
    return checkpoint.folder(root, progress.step)


def _write(tmp: Path, trainee: Trainee) -> None:
    world = trainee.world
    if world.deepspeed:
        trainee.module.save_checkpoint(str(tmp / "deepspeed"), tag=TAG, exclude_frozen_parameters=True)
    else:
        module = _at_rest(trainee)
        options = StateDictOptions(
            full_state_dict=world.sharding == "fsdp2", cpu_offload=world.sharding == "fsdp2", ignore_frozen_params=True
        )
        weights: dict[str, Any] = get_model_state_dict(module, options=options)
        optimizer = _plain(trainee.optimizer)
        # torch would first make an empty state with a step of its own, and count that step.
        moments: Any = get_optimizer_state_dict(module, optimizer, options=options) if optimizer.state else {}
        if world.main:
            tmp.mkdir(exist_ok=True)
            save_tensors(weights, tmp / "weights.safetensors")
            save_state(moments, tmp / "optimizer.pt")


def load(path: Path, trainee: Trainee, *, trusted: bool = False) -> Progress:
    """Puts the state of `path`, a verified checkpoint, into the trainee of every rank."""
    world = trainee.world
    if world.deepspeed and not trusted and (reasons := checkpoint.untrusted(path)):
        raise UserError(
            f"{path}: DeepSpeed's state files are pickles, and these may not be opened: {'; '.join(reasons)}. "
            "If you made them yourself, pass --trust-checkpoint"
        )
    _read(path, trainee)
    if trainee.critic is not None:
        _read(path / CRITIC, trainee.critic)
    set_random_state(load_state(path / f"random-{world.rank:05d}.pt"))
    return Progress(**json.loads((path / "progress.json").read_text()))


def _read(path: Path, trainee: Trainee) -> None:
    world = trainee.world
    if world.deepspeed:
        trainee.module.load_checkpoint(str(path / "deepspeed"), tag=TAG, load_module_strict=False)
    else:
        module = _at_rest(trainee)
        options = StateDictOptions(full_state_dict=world.sharding == "fsdp2", strict=False)
        weights: dict[str, Any] = load_tensors(path / "weights.safetensors")
        _refuse_foreign(path, module, weights)
        set_model_state_dict(module, weights, options=options)
        if moments := load_state(path / "optimizer.pt"):
            set_optimizer_state_dict(module, _plain(trainee.optimizer), moments, options=options)


def identity_of(path: Path) -> dict[str, Any] | None:
    """None of a checkpoint that an older align wrote."""
    return json.loads((path / IDENTITY).read_text(encoding="utf-8")) if (path / IDENTITY).exists() else None


def logs_of(path: Path) -> dict[str, Mark]:
    """By file name; empty of a checkpoint that an older align wrote."""
    return json.loads((path / LOGS).read_text(encoding="utf-8")) if (path / LOGS).exists() else {}


def load_experience(path: Path) -> Any:
    """What `save` was given as `experience`; None where the checkpoint has none."""
    return load_state(path / EXPERIENCE) if (path / EXPERIENCE).exists() else None


def _at_rest(trainee: Trainee) -> Any:
    """The Scorer, its weights as shards: FSDP's root keeps its own whole after a pass, and so they do not load."""
    module = trainee.world.unwrap(trainee.module)
    if trainee.world.sharding == "fsdp2":
        module.reshard()
    return module


def _refuse_foreign(path: Path, module: Any, weights: Mapping[str, Tensor]) -> None:
    """Loading passes over names it does not know, so what is trained must be there, in its shape."""
    trained = {n: tuple(p.shape) for n, p in module.named_parameters() if p.requires_grad}
    wrong = [n for n, shape in trained.items() if n not in weights or tuple(weights[n].shape) != shape]
    if wrong:
        raise UserError(
            f"{path}: is of another model: {len(wrong)} of {len(trained)} trained tensors are not in it as this recipe "
            f"has them, the first {wrong[0]}; resume it with its own recipe"
        )


def restore_weights(path: Path, trainee: Trainee, *, trusted: bool) -> None:
    """Only the weights of a checkpoint: those of the best evaluation, for `final/`."""
    load(path, trainee, trusted=trusted)


def whole_weights(trainee: Trainee) -> dict[str, Tensor] | None:
    """What `final/` is written from where the model's own weights are shards; None where they are whole.

    On the main process's CPU, by the names of the model inside the Scorer; of an adapter only what is trained. All
    ranks take part; the others get {}.
    """
    world, model = trainee.world, trainee.world.unwrap(trainee.module).model
    adapter = hasattr(model, "peft_config")
    if world.sharding == "fsdp2":
        _at_rest(trainee)
        options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=adapter)
        whole: dict[str, Any] = get_model_state_dict(model, options=options)
        return whole
    if world.sharding != "zero3":
        return None
    found: dict[str, Tensor] = {}
    copies: dict[int, Tensor] = {}  # tied weights stay one tensor
    for name, tensor in model.state_dict(keep_vars=True).items():
        if adapter and not tensor.requires_grad:
            continue
        with gathered(tensor):
            if world.main:
                found[name] = copies.setdefault(id(tensor), tensor.detach().cpu().clone())
    return found


def _plain(optimizer: Any) -> torch.optim.Optimizer:
    return getattr(optimizer, "optimizer", optimizer)  # out of accelerate's wrapper
