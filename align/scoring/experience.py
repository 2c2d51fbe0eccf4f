"""What a method learns from: groups, and the columns that are stored before the step, gathered on every rank."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from align.batches import SEQUENCE_COLUMNS, Group, Member
from align.needs import Needs, empty_batch, made_by
from align.scoring.layout import RowLayout, Rows, lay_out, shapes
from align.scoring.plan import Limits, MicroBatch, Plan, make_plan
from align.scoring.role_table import idle
from align.scoring.score import scatter
from align.world.distributed import World
from align.world.stages import moved


@runtime_checkable
class Columns(Protocol):
    """A model over rows: a `Scorer`, or the prepared module around one."""

    @property
    def training(self) -> bool: ...

    def train(self, mode: bool = True) -> Any: ...

    def __call__(
        self, rows: Rows, columns: Sequence[str], num_chunks: int, temperature: float = 1.0
    ) -> dict[str, Tensor]: ...


@runtime_checkable
class Role(Protocol):
    """Who makes a stored column: a frozen model, the policy as it is, or a cache."""

    def stored(
        self, batching: Batching, asked: Mapping[str, tuple[str, ...]], groups: Sequence[Group]
    ) -> dict[tuple[str, str], Tensor]:
        """(member, column) -> (B, T), for the columns asked of each member, on the CPU, complete on every rank."""
        ...


@dataclass(frozen=True)
class Experience:
    """What is learned from, in one or several steps. `batch` is complete but for its live columns, which are zeros, and
    lives on the CPU."""

    groups: list[Group]
    batch: Any
    repeats: tuple[str, ...] = ()  # stored columns that are the step's own log-probabilities, without gradient

    def select(self, rows: Sequence[int]) -> Experience:
        """These rows, each member as wide as the longest of them; what is no member's is as wide as the first."""
        groups = [self.groups[i] for i in rows]
        batch = self.batch.select(torch.tensor(rows, dtype=torch.int64))
        names = [name for name, value in vars(batch).items() if isinstance(value, Member)]
        widths = {name: _width(groups, position) for position, name in enumerate(names)}
        cut = {name: _cut(value, widths.get(name, widths[names[0]])) for name, value in vars(batch).items()}
        return Experience(groups, dataclasses.replace(batch, **cut), self.repeats)


@dataclass(frozen=True)
class Batching:
    """How groups become micro-batches and scored micro-batches become columns again."""

    needs: Needs
    layout: RowLayout
    limits: Limits
    world: World
    temperature: float = 1.0  # that completions were written with, and all log-probabilities are taken at

    def plan(self, groups: Sequence[Group], members: Sequence[str]) -> Plan:
        if not self.needs.batch.divisible:
            return make_plan(shapes([self._pick(g, members) for g in groups], self.layout), self.layout, self.limits)
        bundles = families(groups) if self.needs.batch.together else bundled(groups, self.layout, self.limits)
        picked = [[t for i in bundle for t in self._pick(groups[i], members)] for bundle in bundles]
        plan = make_plan(shapes(picked, self.layout), self.layout, self.limits)
        return dataclasses.replace(plan, ranks=tuple(tuple(_unbundled(m, bundles) for m in r) for r in plan.ranks))

    def mine(self, plan: Plan) -> tuple[MicroBatch, ...]:
        return plan.ranks[self.world.rank]

    def score(
        self, model: Columns, groups: Sequence[Group], micro: MicroBatch, asked: Mapping[str, Sequence[str]]
    ) -> dict[str, dict[str, Tensor]]:
        """The columns `asked` of each member, for the groups of this micro-batch, as wide as in the whole step."""
        members = list(asked)
        bundles = micro.bundles or [(i,) for i in micro.groups]
        picked = [[t for i in bundle for t in self._pick(groups[i], members)] for bundle in bundles]
        rows = lay_out(picked, self.layout, self.limits.row_tokens).to(self.world.device)
        wanted = tuple(dict.fromkeys(c for m in members for c in asked[m]))
        made = model(rows, wanted, micro.num_chunks, self.temperature)
        moved()
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

    def stored(
        self, batching: Batching, asked: Mapping[str, tuple[str, ...]], groups: Sequence[Group]
    ) -> dict[tuple[str, str], Tensor]:
        members = list(batching.needs.members)
        widths = {m: _width(groups, members.index(m)) for m in asked}
        out = {(m, c): torch.zeros(len(groups), widths[m]) for m, columns in asked.items() for c in columns}
        was_training = self.model.training
        self.model.train(False)  # the policy's own columns, too, are those without dropout
        for micro, made in batching.score_all(self.model, groups, asked):
            for (m, c), values in out.items():
                values[list(micro.groups)] = made[m][c].float().cpu()
        self.model.train(was_training)
        return {key: batching.world.sum(values) for key, values in out.items()}  # each row was scored by one rank alone


def families(groups: Sequence[Group]) -> list[tuple[int, ...]]:
    """All rows of a prompt, wherever they stand."""
    found: dict[float, list[int]] = {}
    for i, group in enumerate(groups):
        found.setdefault(group.row["group"], []).append(i)
    return [tuple(rows) for rows in found.values()]


def bundled(groups: Sequence[Group], layout: RowLayout, limits: Limits) -> list[tuple[int, ...]]:
    """Neighbours with one prompt, as many as fit a micro-batch and leave work for every rank; alone where no prompt is
    shared."""
    if layout != "shared":
        return [(i,) for i in range(len(groups))]
    total = sum(len(member.prompt) + len(member.completion) for group in groups for member in group.members)
    room = min(limits.max_tokens, -(-total // limits.world_size))
    bundles: list[list[int]] = []
    held = 0
    for i, group in enumerate(groups):
        new = sum(len(member.completion) for member in group.members)
        if bundles and group.row["group"] == groups[i - 1].row["group"] and held + new <= room:
            bundles[-1].append(i)
            held += new
        else:
            bundles.append([i])
            held = new + len(group.members[0].prompt)
    return [tuple(bundle) for bundle in bundles]


def _unbundled(micro: MicroBatch, bundles: Sequence[tuple[int, ...]]) -> MicroBatch:
    mine = tuple(bundles[i] for i in micro.groups)
    return MicroBatch(tuple(i for bundle in mine for i in bundle), micro.num_chunks, mine)


def gather_experience(
    batching: Batching, groups: Sequence[Group], roles: Mapping[str, Role], method: Any
) -> Experience:
    """Arranges the rows, has every stored column made, and lets the method prepare."""
    needs = batching.needs
    arranged = needs.batch.arrange(groups)
    stored = stored_columns(batching, arranged, {role: roles[role] for role in needs.roles() if role in roles})
    lacking = [(m, c) for m in needs.members for c in needs.stored(m) if (m, c) not in stored]
    for member, column in lacking:
        assert idle(method, role := made_by(column)[0]), f"nobody makes {column}: there is no role {role}"
        stored[member, column] = torch.zeros(len(arranged), _width(arranged, list(needs.members).index(member)))
    repeats = tuple(dict.fromkeys(column for _, column in lacking))
    return Experience(arranged, method.prepare(empty_batch(needs, arranged, stored)), repeats)


def stored_columns(
    batching: Batching, groups: Sequence[Group], roles: Mapping[str, Role]
) -> dict[tuple[str, str], Tensor]:
    """(member, stored column) -> (B, T), of every role."""
    stored: dict[tuple[str, str], Tensor] = {}
    for role, maker in roles.items():
        for (member, column), values in maker.stored(batching, batching.needs.of_role(role), groups).items():
            stored[member, f"{role}_{column}"] = values
    return stored


def live_batch(
    experience: Experience, micro: MicroBatch, made: Mapping[str, Mapping[str, Tensor]], world: World
) -> Any:
    """The rows of a micro-batch with their live columns, on this rank's device."""
    rows = torch.tensor(micro.groups, dtype=torch.int64)
    batch = experience.batch.select(rows).to(world.device)
    has = {m: vars(getattr(batch, m)).keys() for m in made}
    again = {m: {c: made[m]["logps"].detach() for c in experience.repeats if c in has[m]} for m in made}
    replaced = {m: dataclasses.replace(getattr(batch, m), **made[m], **again[m]) for m in made}
    return dataclasses.replace(batch, **replaced)


def _cut(value: Any, width: int) -> Any:
    """A tensor, or the tensors of a member, with no more than `width` tokens of each row."""
    if isinstance(value, Tensor):
        return value[:, :width] if value.ndim == 2 else value
    return dataclasses.replace(value, **{name: _cut(tensor, width) for name, tensor in vars(value).items()})


def _width(groups: Sequence[Group], position: int) -> int:
    return max((len(g.members[position].completion) for g in groups), default=0)
