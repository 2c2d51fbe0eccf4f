"""An experience that is being learned from, step by step, and how a checkpoint keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from align.batches import Group, Tokens
from align.errors import UserError
from align.needs import flattened, rebuilt
from align.scoring.experience import Batching, Experience
from align.training.controllers import Remembered, recalling, told_of
from align.training.portion import Portion

LENGTH = "training.batch_size, rollout.num_prompts, rollout.num_iterations"  # what decides how long an experience is
Passes = list[list[list[int]]]  # pass -> minibatch -> rows


@dataclass
class Buffer:
    """An experience that is being learned from."""

    number: int
    experience: Experience
    minibatches: Passes
    controllers: Remembered  # what the method remembered when it was made
    metrics: dict[str, float]  # told at its first step, which may be made again after a failure

    @property
    def steps(self) -> list[list[int]]:
        """The rows of each optimiser step."""
        return [rows for one_pass in self.minibatches for rows in one_pass]

    def portion(self, at: int, method: Any) -> Portion:
        """What the step `at` learns from, counted from 0, which also tells what is known of the whole experience."""
        metrics = self.metrics | told_of(method, self.controllers) if at == 0 else {}
        return Portion(self.experience.select(self.steps[at]), recalling(method, self.controllers), metrics)

    def state(self) -> dict[str, Any]:
        """As plain values and tensors; the members of a group one after the other."""
        groups = [
            {"prompt": m.prompt.tolist(), "completion": m.completion.tolist(), "mask": m.mask.tolist(),
             "row": dict(g.row), "index": g.index}
            for g in self.experience.groups for m in g.members
        ]  # fmt: skip
        return {
            "phase": self.number, "groups": groups, "batch": flattened(self.experience.batch),
            "repeats": list(self.experience.repeats), "minibatches": self.minibatches, "controllers": self.controllers,
            "metrics": {name: float(value) for name, value in self.metrics.items()},
        }  # fmt: skip

    @classmethod
    def restored(cls, state: Mapping[str, Any], batching: Batching) -> Buffer:
        size = len(batching.needs.members)
        found = [state["groups"][i : i + size] for i in range(0, len(state["groups"]), size)]
        groups = [Group(tuple(_tokens(m) for m in of), of[0]["row"], of[0]["index"]) for of in found]
        experience = Experience(groups, rebuilt(batching.needs, state["batch"]), tuple(state["repeats"]))
        return cls(state["phase"], experience, state["minibatches"], state["controllers"], state.get("metrics", {}))


def refuse_middle(step: int, state: Mapping[str, Any] | None, lasting: int) -> None:
    """UserError where experiences last for another number of steps now and one is under way, `state` if it is kept."""
    number, at = divmod(step, lasting)
    finding = f"an experience lasts {lasting} steps now, and none of them begins after step {step}" if at else ""
    if state is not None:
        length = sum(map(len, state["minibatches"]))
        same = (state["phase"], length) == (number, lasting)
        finding = "" if same else f"step {step} is within an experience of {length} steps, and now they last {lasting}"
    if finding:
        raise UserError(
            f"{LENGTH}: {finding}. Put the old values back, or change them where an experience of the saved run "
            "has ended and one of this recipe begins: --resume PATH of such a checkpoint"
        )


def _tokens(state: Mapping[str, Any]) -> Tokens:
    prompt, completion = (np.array(state[name], dtype=np.int32) for name in ("prompt", "completion"))
    return Tokens(prompt, completion, np.array(state["mask"], dtype=bool))
