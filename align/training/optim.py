"""Optimisers by name, and the learning rate as a pure function of the step (so a resume has nothing to restore)."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from align.errors import UserError, did_you_mean
from align.system.extras import bitsandbytes
from align.training.settings import OptimSection, in_steps

Schedule = Callable[[int, int], float]  # of a step, and of how many before it the policy has had no part in
STEPS = ("num_decay_steps", "num_stable_steps")  # arguments of schedules
EIGHT_BIT = ("Adam8bit", "AdamW8bit", "Lion8bit")  # of bitsandbytes: what they remember has 8 bits
FUSED = ("Adam", "AdamW")  # one kernel for the whole update, on CPU and GPU alike


def make_optimizer(module: nn.Module, section: OptimSection) -> torch.optim.Optimizer:
    """AdamW or any class of torch.optim, transformers.optimization or EIGHT_BIT; weight decay on matrices only."""
    kind = _find(section.optim)
    trained = [p for p in module.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trained if _is_matrix(p)], "weight_decay": section.weight_decay},
        {"params": [p for p in trained if not _is_matrix(p)], "weight_decay": 0.0},
    ]
    arguments: dict[str, Any] = {"lr": section.learning_rate}
    if "Adam" in section.optim:
        arguments |= {"betas": (section.adam_beta1, section.adam_beta2), "eps": section.adam_epsilon}
    if section.optim in FUSED and "foreach" not in section.optim_args:
        arguments["fused"] = True
    try:
        return kind([g for g in groups if g["params"]], **arguments | section.optim_args)
    except (TypeError, ValueError) as error:
        raise UserError(f"optim.optim_args: {section.optim} does not take these: {error}") from None


def check_arguments(module: nn.Module, section: OptimSection) -> None:
    """UserError where `make_optimizer` would refuse to be made for this module, whose weights need not be there."""
    shapes = {p.ndim: p.shape for p in module.parameters() if p.requires_grad}
    make_optimizer(nn.ParameterList(nn.Parameter(torch.zeros(()).expand(s)) for s in shapes.values()), section)


def learning_rate(section: OptimSection, num_steps: int) -> Callable[[int], float]:
    """The rate of optimiser step s = 0 .. num_steps - 1. Warm-up ends at its own step, never at a rate of 0."""
    from transformers import get_scheduler  # seconds, which a look at a recipe has not

    warmup = section.warmup_steps or math.ceil(section.warmup_ratio * num_steps)
    shift = 1 if warmup else 0  # transformers' warm-up begins at 0, and a step of rate 0 is a step lost
    dummy = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=section.learning_rate)
    try:
        scheduler: Any = get_scheduler(
            section.lr_scheduler_type, dummy, num_warmup_steps=warmup, num_training_steps=num_steps + shift,
            scheduler_specific_kwargs=schedule_arguments(section, num_steps),
        )  # fmt: skip
    except (TypeError, ValueError) as error:
        raise UserError(f"optim.lr_scheduler_kwargs: {section.lr_scheduler_type}: {error}") from None
    factor = scheduler.lr_lambdas[0] if hasattr(scheduler, "lr_lambdas") else None
    if factor is None:
        raise UserError(
            f"optim.lr_scheduler_type: {section.lr_scheduler_type} needs more than a step; take cosine or linear"
        )
    return lambda step: section.learning_rate * factor(step + shift)


def schedule_arguments(section: OptimSection, num_steps: int) -> dict[str, Any]:
    """A schedule's own arguments. Steps of a decay may be a share of all steps."""
    found = dict(section.lr_scheduler_kwargs)
    for name in (n for n in STEPS if n in found):
        found[name] = in_steps(found[name], num_steps)
    return found


def rate_of_learner(section: OptimSection, num_steps: int) -> Schedule:
    """`learning_rate` of a policy that others learn without: rate(step, idle), `idle` of the steps before being theirs.

    Its warm-up and its decay are laid over the steps that are left to it.
    """

    @functools.cache
    def after(idle: int) -> Callable[[int], float]:
        return learning_rate(section, num_steps - idle)

    return lambda step, idle: after(idle)(step - idle)


def rate_in_rounds(section: OptimSection, num_steps: int) -> Schedule:
    """The same of an optimiser that begins again after every `num_steps` steps: warm-up and decay are laid over each
    such round, whose rate may be its own."""

    @functools.cache
    def of_round(rate: float) -> Callable[[int], float]:
        return learning_rate(dataclasses.replace(section, learning_rate=rate), num_steps)

    def rate(step: int, idle: int) -> float:
        assert not idle, "who begins again learns in every step"
        number, within = divmod(step, num_steps)
        rates = section.learning_rate_of_round
        return of_round(rates[number] if rates else section.learning_rate)(within)

    return rate


def set_rate(optimizer: Any, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def remembered(optimizer: torch.optim.Optimizer, like: torch.Tensor) -> dict[str, Any]:
    """What an optimiser keeps for a tensor of these dimensions and precision once it has stepped, by name: found by a
    step of its own class with a tensor of one entry. The optimiser itself is as it was."""
    one = nn.Parameter(torch.zeros((1,) * like.ndim, dtype=like.dtype, device=like.device))
    one.grad = torch.zeros_like(one)
    stand_in: Any = object.__new__(type(optimizer))
    hooks: dict[str, Any] = {"_optimizer_step_pre_hooks": OrderedDict(), "_optimizer_step_post_hooks": OrderedDict()}
    stand_in.__dict__ |= vars(optimizer) | {"state": defaultdict(dict)} | hooks
    stand_in.param_groups = [{**optimizer.param_groups[0], "params": [one]}]
    type(optimizer).step(stand_in)  # of the class: what a schedule or a wrapper puts on the optimiser steps that one
    return dict(stand_in.state[one])


def _is_matrix(parameter: nn.Parameter) -> bool:
    # Under ZeRO-3 a parameter is flat and empty between uses; DeepSpeed keeps its real shape beside it.
    return len(getattr(parameter, "ds_shape", parameter.shape)) >= 2


def _is_optimizer(found: Any) -> bool:
    return isinstance(found, type) and issubclass(found, torch.optim.Optimizer)


def _find(name: str) -> Any:
    if name in EIGHT_BIT:
        return getattr(bitsandbytes("optim.optim").optim, name)
    if _is_optimizer(found := getattr(torch.optim, name, None)):
        return found
    import transformers.optimization

    if _is_optimizer(found := getattr(transformers.optimization, name, None)):
        return found
    known = [*sorted(n for n in vars(torch.optim) if n[0].isupper()), "Adafactor", *EIGHT_BIT]
    raise UserError(f"optim.optim: no such optimiser: {name}; there are {', '.join(known)}.{did_you_mean(name, known)}")
