"""An experience that is being learned from, as a checkpoint keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from align.batches import Group, Tokens
from align.needs import flattened, rebuilt
from align.scoring.experience import Experience, Reader
from align.sources.harvest import Passes


@dataclass
class Buffer:
    """An experience that is being learned from."""

    phase: int
    experience: Experience
    minibatches: Passes
    controllers: dict[str, float]  # what the method remembered when it was written
    metrics: dict[str, float]  # told at its first step, which may be made again after a failure

    def state(self) -> dict[str, Any]:
        """As plain values and tensors."""
        groups = [
            {"prompt": m.prompt.tolist(), "completion": m.completion.tolist(), "mask": m.mask.tolist(),
             "row": dict(g.row), "index": g.index}
            for g in self.experience.groups for m in g.members
        ]  # fmt: skip
        return {
            "phase": self.phase, "groups": groups, "batch": flattened(self.experience.batch),
            "repeats": list(self.experience.repeats), "minibatches": self.minibatches, "controllers": self.controllers,
            "metrics": {name: float(value) for name, value in self.metrics.items()},
        }  # fmt: skip

    @classmethod
    def restored(cls, state: Mapping[str, Any], reader: Reader) -> Buffer:
        groups = [Group((_tokens(g),), g["row"], g["index"]) for g in state["groups"]]
        experience = Experience(groups, rebuilt(reader.needs, state["batch"]), tuple(state["repeats"]))
        return cls(state["phase"], experience, state["minibatches"], state["controllers"], state.get("metrics", {}))


def _tokens(state: Mapping[str, Any]) -> Tokens:
    prompt, completion = (np.array(state[name], dtype=np.int32) for name in ("prompt", "completion"))
    return Tokens(prompt, completion, np.array(state["mask"], dtype=bool))
