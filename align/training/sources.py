"""The weights of sources of rows, learned: one logit each, the same on every rank, with an optimiser of its own."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from align.errors import UserError
from align.runfolder.state_files import load_state, save_state
from align.training.optim import make_optimizer, set_rate
from align.training.settings import OptimSection

STATE = "state.pt"  # in its folder of a checkpoint


@dataclass(frozen=True)
class SourceLogits:
    """lambda (m,): the weights of the sources are its softmax. It begins at 0, where all are alike."""

    names: tuple[str, ...]
    logits: nn.Parameter  # float32
    optimizer: torch.optim.Optimizer  # of the recipe's kind; without weight decay, which would pull to equal weights

    def shares(self) -> tuple[float, ...]:
        """p = softmax(lambda); a weight that is nothing in float32 is the smallest number that is one."""
        p = self.logits.detach().softmax(0)
        return tuple(p.clamp_min(torch.finfo(p.dtype).tiny).tolist())

    def update(self, slopes: Sequence[float], rate: float) -> None:
        """A step along the gradient of the logits, which must be the same on every rank."""
        set_rate(self.optimizer, rate)
        self.logits.grad = torch.tensor(slopes, dtype=self.logits.dtype)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def write(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        state = {"names": list(self.names), "logits": self.logits.detach(), "optimizer": self.optimizer.state_dict()}
        save_state(state, folder / STATE)

    def read(self, folder: Path) -> None:
        """UserError where the file is not there, or is of other sources."""
        file = folder / STATE
        state: Any = load_state(file) if file.exists() else {"names": "none"}
        if state["names"] != list(self.names):
            found = f"holds the weights of {state['names']}, and this recipe has the sources {list(self.names)}"
            raise UserError(f"{file}: {found}; resume it with its own recipe")
        with torch.no_grad():
            self.logits.copy_(state["logits"])
        self.optimizer.load_state_dict(state["optimizer"])


def source_logits(
    names: Sequence[str], section: OptimSection, rate: float, dtype: torch.dtype = torch.float32
) -> SourceLogits:
    """Fresh ones, with an optimiser as `section` has it for the policy's vectors."""
    module = nn.ParameterList([nn.Parameter(torch.zeros(len(names), dtype=dtype))])
    optimizer = make_optimizer(module, dataclasses.replace(section, learning_rate=rate))
    return SourceLogits(tuple(names), module[0], optimizer)


def effective_number(shares: Sequence[float]) -> float:
    """exp(H(p)): how many sources of equal weight there would be as much disorder of."""
    return math.exp(-sum(p * math.log(p) for p in shares if p > 0))
