"""What a method learns from: groups, and the columns that are stored before the step, gathered on every rank."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from align.batches import SEQUENCE_COLUMNS, Group, Needs, columns, empty_batch
from align.data.forest import RowLayout, Rows, lay_out, shapes
from align.training.distributed import World
from align.training.plan import Limits, MicroBatch, Plan, make_plan
from align.training.score import scatter


@runtime_checkable
class Columns(Protocol):
    """A model over rows: a `Scorer`, or the prepared module around one."""

    def __call__(self, rows: Rows, columns: Sequence[str], num_chunks: int) -> dict[str, Tensor]: ...


@runtime_checkable
class Role(Protocol):
    """Who makes a stored column: a frozen model, the policy as it is, or a cache."""

    def stored(self, reader: Reader, members: tuple[str, ...], groups: Sequence[Group]) -> dict[str, Tensor]:
        """Log-probabilities (B, T) of each of `members`, on the CPU, complete on every rank."""
        ...


@dataclass(frozen=True)
class Experience:
    """The rows of a step. `batch` is complete but for its live columns, which are zeros, and lives on the CPU."""

    groups: list[Group]
    batch: Any


@dataclass(frozen=True)
class Reader:
    """How groups become micro-batches and scored micro-batches become columns again."""

    needs: Needs
    layout: RowLayout
    limits: Limits
    world: World

    def plan(self, groups: Sequence[Group], members: Sequence[str]) -> Plan:
        return make_plan([shapes(self._pick(g, members), self.layout) for g in groups], self.layout, self.limits)

    def mine(self, plan: Plan) -> tuple[MicroBatch, ...]:
        return plan.ranks[self.world.rank]

    def score(
        self, model: Columns, groups: Sequence[Group], micro: MicroBatch, asked: Mapping[str, Sequence[str]]
    ) -> dict[str, dict[str, Tensor]]:
        """The columns `asked` of each member, for the groups of this micro-batch, as wide as in the whole step."""
        members = list(asked)
        picked = [self._pick(groups[i], members) for i in micro.groups]
        rows = lay_out(picked, self.layout, self.limits.row_tokens).to(self.world.device)
        wanted = tuple(dict.fromkeys(c for m in members for c in asked[m]))
        made = model(rows, wanted, micro.num_chunks)
        widths = [_width(groups, self._position(m)) for m in members]
        shape = (len(micro.groups) * len(members), max(widths))
        placed = {c: v if c in SEQUENCE_COLUMNS else scatter(v, rows, shape) for c, v in made.items()}
        return {
            m: {
                c: placed[c][k :: len(members)][..., : widths[k]]
                if c not in SEQUENCE_COLUMNS
                else placed[c][k :: len(members)]
                for c in asked[m]
            }
            for k, m in enumerate(members)
        }

    def score_all(
        self, model: Columns, groups: Sequence[Group], asked: Mapping[str, Sequence[str]]
    ) -> Iterator[tuple[MicroBatch, dict[str, dict[str, Tensor]]]]:
        """Every micro-batch of this rank, without gradient."""
        for micro in self.mine(self.plan(groups, list(asked))):
            with torch.no_grad():
                made = self.score(model, groups, micro, asked)
            yield micro, made

    def _position(self, member: str) -> int:
        return list(self.needs.members).index(member)

    def _pick(self, group: Group, members: Sequence[str]) -> list[Any]:
        return [group.members[self._position(m)] for m in members]


@dataclass(frozen=True)
class ModelRole:
    """A role that is scored anew for every experience: a frozen copy, or the policy as it was before the step."""

    model: Columns

    def stored(self, reader: Reader, members: tuple[str, ...], groups: Sequence[Group]) -> dict[str, Tensor]:
        out = {m: torch.zeros(len(groups), _width(groups, list(reader.needs.members).index(m))) for m in members}
        for micro, made in reader.score_all(self.model, groups, {m: ("logps",) for m in members}):
            for m in members:
                out[m][list(micro.groups)] = made[m]["logps"].float().cpu()
        return {m: reader.world.sum(values) for m, values in out.items()}  # each row was scored by one rank alone


def gather_experience(reader: Reader, groups: Sequence[Group], roles: Mapping[str, Role], method: Any) -> Experience:
    """Arranges the rows, has every stored column made, and lets the method prepare."""
    needs = reader.needs
    arranged = needs.batch.arrange(groups)
    stored: dict[tuple[str, str], Tensor] = {}
    for role in needs.roles():
        members = tuple(m for m in needs.members if f"{role}_logps" in needs.stored(m))
        for member, values in roles[role].stored(reader, members, arranged).items():
            stored[member, f"{role}_logps"] = values
    return Experience(arranged, method.prepare(empty_batch(needs, arranged, stored)))


def live_batch(
    experience: Experience, micro: MicroBatch, made: Mapping[str, Mapping[str, Tensor]], world: World
) -> Any:
    """The rows of a micro-batch with their live columns, on this rank's device."""
    rows = torch.tensor(micro.groups, dtype=torch.int64)
    batch = experience.batch.select(rows).map(lambda tensor: tensor.to(world.device))
    replaced = {m: dataclasses.replace(getattr(batch, m), **made[m]) for m in made}
    return dataclasses.replace(batch, **replaced)


def live_columns(needs: Needs) -> dict[str, tuple[str, ...]]:
    """What the trained model is asked for in a step."""
    return {m: needs.live(m) for m in needs.learned()}


def _width(groups: Sequence[Group], position: int) -> int:
    return max((len(g.members[position].completion) for g in groups), default=0)


__all__ = [
    "Columns",
    "Experience",
    "ModelRole",
    "Reader",
    "Role",
    "columns",
    "gather_experience",
    "live_batch",
    "live_columns",
]
