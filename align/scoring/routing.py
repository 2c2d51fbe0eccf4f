"""The load-balancing loss of a mixture of experts, of a whole optimiser step.

It is a product of two means over all tokens, so no micro-batch can know its own part: how often each expert is chosen
is counted in a pass of its own, without gradient, before the first backward pass. Then every micro-batch adds its
probabilities, and the sum is the loss of the step under any division into micro-batches and ranks.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from align.errors import UserError
from align.functional.routing import balance_loss
from align.models.parts import unwrapped
from align.models.routers import experts_per_token
from align.models.settings import ModelSection
from align.scoring.experience import Batching, Columns, Experience
from align.scoring.layout import Rows, lay_out
from align.scoring.plan import MicroBatch
from align.scoring.probe import probe
from align.scoring.score import ROUTING

ROUNDING = 1e-3  # the largest relative difference between our loss and the model's own


@dataclass
class Watched:
    """A model that answers with columns, and keeps what its routers have done until it is `taken`."""

    model: Columns
    seen: list[Tensor] = field(default_factory=list)

    @property
    def training(self) -> bool:
        return self.model.training

    def train(self, mode: bool = True) -> Any:
        self.model.train(mode)

    def __call__(
        self, rows: Rows, columns: Sequence[str], num_chunks: int, temperature: float = 1.0
    ) -> dict[str, Tensor]:
        made = self.model(rows, (*columns, ROUTING), num_chunks, temperature)
        self.seen.append(made.pop(ROUTING))
        return made


@dataclass(frozen=True)
class Balance:
    """The loss of a step: its weight, and what was counted over all of it."""

    watched: Watched  # to be scored with in place of the model
    coef: float
    sums: Tensor  # (2, E)
    count: float

    def share(self) -> Tensor:
        """The last micro-batch's part of the weighted loss, with the gradient of its probabilities."""
        probs = self.watched.seen.pop()[1]
        return self.coef * balance_loss(torch.stack([self.sums[0], probs]), self.count)

    def told(self, loss: float) -> dict[str, float]:
        """The metrics of the step: this loss by itself, and `loss` with it."""
        value = balance_loss(self.sums, self.count).item()
        return {"router_loss": value, "loss": loss + self.coef * value}


def counted(
    model: Columns, coef: float, batching: Batching, experience: Experience, mine: Sequence[MicroBatch]
) -> Balance | None:
    """Runs over all micro-batches of this rank; None where the loss has no weight."""
    if not coef:
        return None
    watched = Watched(model)
    total = torch.zeros((), device=batching.world.device)
    asked = {member: () for member in batching.needs.learned()}
    for micro in mine:
        with torch.no_grad():
            batching.score(watched, experience.groups, micro, asked)
        total = total + watched.seen.pop()
    total = batching.world.sum(total)
    return Balance(watched, coef, total[:2], max(total[2, 0].item(), 1.0))


def settle_router(trainee: Any, section: ModelSection) -> Any:
    """The trainee with the weight of its router loss. UserError where the model has no such loss, or not this one."""
    coef, world = section.router_aux_loss_coef or 0.0, trainee.world
    if not coef:
        return trainee
    scorer = world.unwrap(trainee.module)
    inner = unwrapped(scorer.model)
    refuse_routerless(inner, section)
    rows = lay_out(probe(inner.config.get_text_config().vocab_size), "padded").to(world.device)
    was_training = trainee.module.training
    trainee.module.eval()
    with torch.no_grad():
        gap = trainee.module(rows, ("router_gap",), 1)["router_gap"].item()
    trainee.module.train(was_training)
    if gap > ROUNDING or not scorer.kernel.own_head:
        finding = "has no router loss of its own" if math.isinf(gap) else "makes its router loss in a way of its own"
        raise _refusal(inner, finding)
    return dataclasses.replace(trainee, router_coef=coef)


def refuse_routerless(model: Any, section: ModelSection) -> None:
    """UserError where a router loss is asked of a model whose config sends no token to experts."""
    inner = unwrapped(model)
    if section.router_aux_loss_coef and not experts_per_token(inner.config):
        raise _refusal(inner, "has no router loss of its own")


def _refusal(model: Any, finding: str) -> UserError:
    return UserError(
        f"model.router_aux_loss_coef: {type(model).__name__} {finding}, so none can be added; remove the key"
    )
