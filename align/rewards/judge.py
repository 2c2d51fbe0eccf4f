"""All reward functions of a recipe over completions: verdicts by name, and their weighted sum."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from align.errors import RunError
from align.rewards.base import Sample, call, find_reward
from align.rewards.settings import Function, RewardSection


@dataclass(frozen=True)
class Judge:
    """Reward functions by the names they are logged under, each with its weight."""

    functions: Mapping[str, Callable[..., Any]]
    weights: Mapping[str, float]
    mark_errors: bool = False

    def __call__(self, samples: Sequence[Sample]) -> list[dict[str, float | None]]:
        """For each sample, what each function says; None: does not apply, or could not be judged."""
        if not samples:
            return []
        said = {name: self._said(name, function, samples) for name, function in self.functions.items()}
        return [{name: values[i] for name, values in said.items()} for i in range(len(samples))]

    def total(self, verdicts: Mapping[str, float | None]) -> float | None:
        """The weighted sum of what applies; None where nothing does."""
        values = [self.weights[name] * value for name, value in verdicts.items() if value is not None]
        return sum(values) if values else None

    def _said(self, name: str, function: Callable[..., Any], samples: Sequence[Sample]) -> list[float | None]:
        try:
            return call(name, function, samples)
        except RunError:
            raise
        except Exception as error:  # whatever a user's function may raise
            if not self.mark_errors:
                raise RunError(_told(name, error)) from error
        return [self._alone(name, function, sample) for sample in samples]

    def _alone(self, name: str, function: Callable[..., Any], sample: Sample) -> float | None:
        """One sample by itself, so that one which cannot be judged spoils no other."""
        try:
            return call(name, function, [sample])[0]
        except RunError:
            raise
        except Exception:
            return None


def make_judge(section: RewardSection) -> Judge:
    """UserError where a function is not there, cannot be imported, or does not take its settings."""
    functions: dict[str, Callable[..., Any]] = {}
    weights: dict[str, float] = {}
    for entry in section.functions:
        asked = Function(name=entry) if isinstance(entry, str) else entry
        name = _free(asked.name.rpartition(":")[2], functions)
        functions[name], weights[name] = find_reward(asked.name, asked.settings), asked.weight
    return Judge(functions, weights, section.on_error == "mark")


def _free(name: str, taken: Mapping[str, Any]) -> str:
    """The same function twice, with other settings, is logged under two names."""
    number = 2
    free = name
    while free in taken:
        free, number = f"{name}_{number}", number + 1
    return free


def _told(name: str, error: Exception) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return (
        f"reward {name}: {type(error).__name__}: {error} ({last.filename}, line {last.lineno}); "
        "correct it, or set reward.on_error: mark to leave out samples that it cannot judge"
    )
