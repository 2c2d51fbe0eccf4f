"""Reward functions as TRL calls them: beside completions and columns they are told of the trainer, and may log."""

from __future__ import annotations

import functools
import inspect
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from transformers import TrainerState

from align.errors import UserError

BESIDE = ("trainer_state", "log_extra", "log_metric")


@dataclass
class Told:
    """What reward functions have logged since the last line of the log."""

    state: TrainerState
    metrics: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    extra: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))  # columns beside the completions

    def log_metric(self, name: str, value: float) -> None:
        """A number of this step; the log has the mean."""
        self.metrics[name].append(float(value))

    def log_extra(self, column: str, values: Sequence[Any]) -> None:
        """A value for each completion."""
        self.extra[column] += list(values)

    def averaged(self) -> dict[str, float]:
        """The means of what was logged, which begins anew."""
        means = {name: sum(values) / len(values) for name, values in self.metrics.items()}
        self.metrics.clear()
        return means


def functions_of(given: Any, weights: Sequence[float] | None, told: Told) -> list[dict[str, Any]]:
    """`reward_funcs` as a recipe has functions. UserError for what is none, or for weights of other functions."""
    each = list(given) if isinstance(given, list | tuple) else [] if given is None else [given]
    if not each:
        raise UserError("align.trl: reward_funcs: missing; give a function, a reward model's folder, or a list of them")
    if weights is not None and len(weights) != len(each):
        raise UserError(f"align.trl: args.reward_weights: found {len(weights)} for {len(each)} reward_funcs")
    shares = [1.0] * len(each) if weights is None else [float(w) for w in weights]
    return [{**_one(one, told), "weight": share} for one, share in zip(each, shares, strict=True)]


def _one(given: Any, told: Told) -> dict[str, Any]:
    if isinstance(given, str):
        return {"name": "learned", "settings": {"model": given}}
    if isinstance(given, torch.nn.Module) or not callable(given):
        kind = type(given).__name__
        raise UserError(f"align.trl: reward_funcs: found {kind}; expected a function, or the name of a model's folder")
    return {"name": called(given, told)}


def called(function: Callable[..., Any], told: Told) -> Callable[..., Any]:
    """The function with this package's signature: what TRL gives beside is put in, tensors and arrays come out as
    numbers; NaN is, as None, no verdict."""
    parameters = inspect.signature(function).parameters
    any_name = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    beside = {name: v for name, v in _beside(told).items() if any_name or name in parameters}

    @functools.wraps(function)
    def asked(**columns: Any) -> Any:
        found = function(**columns, **beside)
        return _awaited(found) if inspect.iscoroutine(found) else _numbers(found)

    kept = [p for name, p in parameters.items() if name not in BESIDE]
    asked.__signature__ = inspect.Signature(kept)  # type: ignore[attr-defined]
    return asked


def _beside(told: Told) -> dict[str, Any]:
    return dict(zip(BESIDE, (told.state, told.log_extra, told.log_metric), strict=True))


async def _awaited(coroutine: Any) -> Any:
    return _numbers(await coroutine)


def _numbers(found: Any) -> Any:
    if isinstance(found, torch.Tensor):
        found = found.detach().float().cpu().reshape(-1).tolist()
    elif isinstance(found, np.ndarray):
        found = found.reshape(-1).tolist()
    if not isinstance(found, list | tuple):
        return found
    return [None if isinstance(v, float) and math.isnan(v) else v for v in found]
