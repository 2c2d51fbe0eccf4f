"""States: what stands before a step of a completion, the prompt and the completion up to there, numbered from 1.

Equal ones have one number, whichever completion they stand in. A state is a beginning of token ids and not of text: so
it lies on the way that the policy took, and a completion that begins from it is one that the policy might have written.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from align.rollout.writer import Trajectory

Place = tuple[int, int, int]  # prompt, completion, token


def places_of(written: Sequence[Trajectory]) -> dict[Place, int]:
    """Where in these completions which state stands."""
    numbers: dict[bytes, int] = {}
    found: dict[Place, int] = {}
    for t in written:
        ids = np.array([*t.prompt, -1, *t.tokens], dtype=np.int32)
        for start in t.steps:
            beginning = ids[: len(t.prompt) + 1 + start].tobytes()
            found[t.number, t.place, start] = numbers.setdefault(beginning, len(numbers) + 1)
    return found


def with_states(batch: Any, written: Sequence[Trajectory], places: Mapping[Place, int]) -> Any:
    """The batch with `states` (B, T), where it has them; `places` are those of `written`, its rows."""
    if not batch.stepwise:
        return batch
    states = torch.zeros_like(batch.states)
    rows = {(t.number, t.place): i for i, t in enumerate(written)}
    for (number, place, start), state in places.items():
        states[rows[number, place], start] = state
    return dataclasses.replace(batch, states=states)
