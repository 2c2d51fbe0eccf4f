"""What job.sh tells every rank of its attempt, in variables of the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from align.errors import UserError
from align.world import here

RUN = "ALIGN_RUN"  # the run folder


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One start of a job."""

    name: str  # the job's number and how often it was put back
    run: Path
    num_ranks: int  # asked for
    gpus: int  # of each node
    nodes: tuple[str, ...]  # in the order of their ranks; empty: not known
    limit: float  # seconds that the preflight may take

    def node_of(self, rank: int) -> str:
        """` on n2`, where the nodes are known."""
        of_node = -(-self.num_ranks // len(self.nodes)) if self.nodes else 0
        return f" on {self.nodes[rank // of_node]}" if of_node and rank < self.num_ranks else ""


@dataclass(frozen=True, kw_only=True)
class Rank:
    """This process among those of the attempt, as its launcher says."""

    number: int
    size: int
    local: int  # among those of its node
    of_node: int  # how many these are
    host: str  # where rank 0 keeps the store through which all meet
    port: int
    node: str = field(default_factory=here.node)
    keeps: bool = False  # the store

    @property
    def name(self) -> str:
        return f"rank {self.number} on {self.node}"


def attempt_of() -> Attempt | None:
    """None of a process that no job has started, or whose job wants no preflight."""
    name, limit = here.attempt(), _number("ALIGN_PREFLIGHT")
    if not name or not limit:
        return None
    nodes = tuple(os.environ.get("ALIGN_NODES", "").split())
    run, asked = Path(os.environ.get(RUN, "")), _number("ALIGN_RANKS")
    return Attempt(name=name, run=run, num_ranks=asked, gpus=_number("ALIGN_GPUS"), nodes=nodes, limit=limit)


def rank_of() -> Rank:
    number, size = _number("RANK"), _number("WORLD_SIZE") or 1
    launcher_keeps = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"  # torchrun and accelerate
    return Rank(
        number=number, size=size, local=_number("LOCAL_RANK"), of_node=_number("LOCAL_WORLD_SIZE") or 1,
        host=os.environ.get("MASTER_ADDR", "localhost"), port=_number("MASTER_PORT"),
        keeps=number == 0 and not launcher_keeps,
    )  # fmt: skip


def _number(name: str) -> int:
    text = os.environ.get(name, "") or "0"
    if not text.isdecimal():
        raise UserError(f"{name} is {text!r}, and no number; see job.sh")
    return int(text)
